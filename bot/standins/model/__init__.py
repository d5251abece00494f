"""The echo model: an OpenAI-compatible model without intelligence, for trying Zaki out and for tests."""

from bot.standins.model.app import echo_app
from bot.standins.model.transport import EchoTransport

__all__ = ["EchoTransport", "echo_app"]
