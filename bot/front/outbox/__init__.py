"""What is said to Telegram: kept before it is answered, sent in order, within Telegram's limits."""

from bot.front.outbox.calls import BotCall
from bot.front.outbox.dispatch import Backoff
from bot.front.outbox.limits import Limits, Rate
from bot.front.outbox.outbox import Outbox, OutboxPolicy
from bot.front.telegram import Upload

__all__ = ["Backoff", "BotCall", "Limits", "Outbox", "OutboxPolicy", "Rate", "Upload"]
