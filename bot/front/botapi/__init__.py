"""The multiplexer: one real bot, and for each instance a Bot API that reaches its owner's chat alone."""

from bot.front.botapi.routes import router

__all__ = ["router"]
