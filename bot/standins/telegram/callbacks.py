"""Pressed inline buttons that wait for the bot's answer."""

import secrets
from dataclasses import dataclass, field

from bot.standins.telegram.clock import Clock
from bot.standins.telegram.errors import bad_request


@dataclass(frozen=True)
class PressedButton:
    user_id: int
    chat_id: int
    expires_at: float


@dataclass
class CallbackQueries:
    clock: Clock
    lifetime: float
    _pressed: dict[str, PressedButton] = field(default_factory=dict)

    def press(self, user_id: int, chat_id: int) -> str:
        """A new query's id."""
        query_id = str(secrets.randbits(62))
        self._pressed[query_id] = PressedButton(user_id, chat_id, self.clock.time() + self.lifetime)
        return query_id

    def answered(self, query_id: str) -> PressedButton:
        """Who pressed; raises ApiError 400 for an unknown query, one too old, or one that has its answer."""
        pressed = self._pressed.pop(query_id, None)
        if pressed is None or pressed.expires_at < self.clock.time():
            raise bad_request("query is too old and response timeout expired or query ID is invalid")
        return pressed

    def clear(self) -> None:
        self._pressed.clear()
