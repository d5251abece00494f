"""Zaki for a try: the service with the Telegram simulator, its chat page and the echo model."""
