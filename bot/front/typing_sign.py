"""“typing…” in the chats of people who wait for their instance."""

from __future__ import annotations

import asyncio
import contextlib
import time

from bot.front.outbox import BotCall, Outbox

#: Seconds; Telegram shows it for 5.
_EVERY = 4.0


class TypingSign:
    """Shows the sign where there is room for it: messages go first."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        #: When each chat's sign is due (monotonic seconds).
        self._due: dict[int, float] = {}
        self._bell = asyncio.Event()

    def show(self, telegram_id: int) -> None:
        """From now on."""
        if telegram_id not in self._due:
            self._due[telegram_id] = 0.0
            self._bell.set()

    def hide(self, telegram_id: int) -> None:
        """No longer; what was shown ends by itself."""
        self._due.pop(telegram_id, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._bell.clear()
            for telegram_id in [chat for chat, due in self._due.items() if due <= time.monotonic()]:
                if telegram_id in self._due:
                    self._due[telegram_id] = time.monotonic() + _EVERY
                    params = {"chat_id": telegram_id, "action": "typing"}
                    await self._outbox.pass_by(BotCall("sendChatAction", params, telegram_id))
            pause = max(0.1, min(self._due.values()) - time.monotonic()) if self._due else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._bell.wait()
