"""The Bot API's methods, by their lower-case names (Telegram does not look at the case)."""

from collections.abc import Awaitable, Callable
from typing import Any

from bot.standins.telegram.methods import chats, commands, delivery, editing, media, messages, profile
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator

Method = Callable[[Simulator, Params], Awaitable[Any]]

METHODS: dict[str, Method] = {
    name.lower(): method
    for part in (chats, commands, delivery, editing, media, messages, profile)
    for name, method in part.METHODS.items()
}
