"""What happens in the simulator, told to whoever watches (the chat page, through Server-Sent Events)."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from bot.standins.telegram.bell import Bell

#: Seconds of silence after which a comment line keeps the connection alive.
KEEP_ALIVE = 15.0


@dataclass(frozen=True)
class Event:
    number: int
    kind: str
    #: None for what concerns no single chat.
    chat_id: int | None
    data: dict[str, Any]


class EventHub:
    """Numbers events, keeps the latest, and streams them; a watcher that lost its connection goes on where it was."""

    def __init__(self, kept: int = 2000) -> None:
        # Numbers start anew with the process, so a watcher of an earlier one has to be told apart.
        self._epoch = secrets.token_hex(4)
        self._events: deque[Event] = deque(maxlen=kept)
        self._number = 0
        self._bell = Bell()
        self._closed = False

    @property
    def position(self) -> str:
        """The id of the latest event, for `Last-Event-ID`."""
        return f"{self._epoch}-{self._number}"

    def publish(self, kind: str, chat_id: int | None = None, **data: Any) -> None:
        self._number += 1
        self._events.append(Event(self._number, kind, chat_id, data))
        self._bell.ring()

    def close(self) -> None:
        """End every stream and every wait."""
        self._closed = True
        self._bell.ring()

    @property
    def closed(self) -> bool:
        return self._closed

    @staticmethod
    def now() -> float:
        """Seconds of the event loop's clock, for deadlines of waits."""
        return asyncio.get_running_loop().time()

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether something happened within `seconds` (None: wait for ever)."""
        return self._closed or await self._bell.wait(seconds)

    async def stream(self, last_id: str | None = None) -> AsyncIterator[str]:
        """Server-Sent Events after `last_id`, or from now on; `resync` says that some were missed."""
        number = self._number
        if last_id is not None:
            known = self._known(last_id)
            if known is None:
                yield f"id: {self.position}\nevent: resync\ndata: {{}}\n\n"
            else:
                number = known
        yield "retry: 1000\n\n"
        while not self._closed:
            for event in [event for event in self._events if event.number > number]:
                number = event.number
                yield self._render(event)
            if number == self._number and not await self.wait(KEEP_ALIVE):
                yield ": still here\n\n"

    def _known(self, last_id: str) -> int | None:
        epoch, _, text = last_id.partition("-")
        if epoch != self._epoch or not text.isdigit():
            return None
        number = int(text)
        oldest = self._events[0].number if self._events else self._number + 1
        return number if oldest - 1 <= number <= self._number else None

    def _render(self, event: Event) -> str:
        data = json.dumps({"kind": event.kind, "chat_id": event.chat_id, **event.data}, ensure_ascii=False)
        return f"id: {self._epoch}-{event.number}\nevent: {event.kind}\ndata: {data}\n\n"
