"""The registry that instances see at `/skills`: a vetted mirror of ClawHub."""

from bot.front.skills.mirror import Mirror
from bot.front.skills.routes import router
from bot.front.skills.watch import watch

__all__ = ["Mirror", "router", "watch"]
