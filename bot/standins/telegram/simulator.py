"""The simulated Telegram: one bot, the people who write to it, and everything between them."""

import random
from collections import deque
from typing import Any

from bot.standins.telegram.callbacks import CallbackQueries
from bot.standins.telegram.clock import Clock, SystemClock
from bot.standins.telegram.config import SimulatorConfig
from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.events import EventHub
from bot.standins.telegram.faults import Faults
from bot.standins.telegram.files import Files
from bot.standins.telegram.limits import FloodLimits
from bot.standins.telegram.params import as_integer
from bot.standins.telegram.polling import Polling
from bot.standins.telegram.state import Chat, Json, Person, Profile
from bot.standins.telegram.updates import PendingUpdates
from bot.standins.telegram.webhook import Webhook

#: 1 January 2024. Message and update ids start at the seconds since then, so that a restarted simulator
#: repeats none: a gateway drops what it has seen before.
_EPOCH = 1_704_067_200


class Simulator:
    """State in memory; its methods are called from one event loop."""

    def __init__(self, config: SimulatorConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.rng = random.SystemRandom()
        first_id = int(self.clock.time()) - _EPOCH
        self._last_message_id = first_id
        self.people: dict[int, Person] = {}
        self.chats: dict[int, Chat] = {}
        self.profile = Profile()
        self.files = Files()
        self.events = EventHub()
        self.faults = Faults(self.clock)
        self.limits = FloodLimits(self.clock)
        self.updates = PendingUpdates(self.clock, first_id)
        self.polling = Polling(self.updates)
        self.webhook = Webhook(config, self.clock, self.updates)
        self.callbacks = CallbackQueries(self.clock, config.callback_lifetime)
        #: The latest Bot API calls: `at`, `method`, `params`, `status` (None: no answer was given).
        self.calls: deque[Json] = deque(maxlen=2000)

    @property
    def bot_user(self) -> Json:
        """The Bot API's `User` of the bot."""
        return {
            "id": self.config.bot_id,
            "is_bot": True,
            "first_name": self.profile.names.get("", self.config.bot_name),
            "username": self.config.bot_username,
        }

    def now(self) -> int:
        """Seconds since the epoch, whole."""
        return int(self.clock.time())

    def chat(self, chat_id: Any) -> Chat:
        """The chat by its id; raises ApiError 400 if nobody wrote there, as a bot cannot write first."""
        number = as_integer(chat_id)
        chat = None if number is None else self.chats.get(number)
        if chat is None or not chat.opened:
            raise bad_request("chat not found")
        return chat

    def new_message(self, chat: Chat, sender: Json, content: Json) -> Json:
        """Make the next message of a chat, keep it and tell the watchers."""
        self._last_message_id += 1
        message: Json = {
            "message_id": self._last_message_id,
            "from": sender,
            "chat": chat.as_chat(),
            "date": self.now(),
            **content,
        }
        chat.messages[self._last_message_id] = message
        self.changed(chat, "message", message=message)
        return message

    def replace_message(self, chat: Chat, message: Json) -> None:
        """Keep a new version of a message."""
        chat.messages[message["message_id"]] = message
        self.changed(chat, "edited", message=message)

    def delete_message(self, chat: Chat, message_id: int) -> None:
        del chat.messages[message_id]
        chat.reactions.pop(message_id, None)
        self.changed(chat, "deleted", message_id=message_id)

    def changed(self, chat: Chat, kind: str, **data: Any) -> None:
        """Tell whoever reads this chat that something in it is new."""
        chat.version += 1
        self.events.publish(kind, chat.id, version=chat.version, **data)

    def reset(self) -> None:
        """Forget people, chats, files, faults and waiting updates; the bot's own settings and webhook stay."""
        for state in (self.people, self.chats, self.files, self.faults, self.updates, self.callbacks, self.calls):
            state.clear()
        self.webhook.forget_loaded()
        self.events.publish("reset")

    async def close(self) -> None:
        """End every stream, poll and delivery."""
        self.events.close()
        self.polling.close()
        self.faults.clear()
        await self.webhook.close()
