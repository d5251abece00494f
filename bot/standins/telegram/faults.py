"""Faults that a test or the chat page orders: flood limits, outages, cut connections, slowness."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from bot.standins.telegram.bell import Bell
from bot.standins.telegram.clock import Clock
from bot.standins.telegram.state import Json


class FaultKind(StrEnum):
    #: 429 with `retry_after`.
    TOO_MANY_REQUESTS = "too_many_requests"
    #: Any error of the Bot API: `status` and `description`.
    ERROR = "error"
    #: 502 with a page of HTML, as a proxy in front of Telegram answers.
    BAD_GATEWAY = "bad_gateway"
    #: No answer for `delay` seconds, then the connection closes.
    HANG = "hang"
    #: The connection closes, and nothing was done.
    CUT = "cut"
    #: The call is carried out, then the connection closes without an answer.
    CUT_AFTER = "cut_after"
    #: Each answer comes `delay` seconds late.
    LATENCY = "latency"


@dataclass
class Fault:
    """One order; `count` calls or `seconds`, whichever ends first (both None: until it is cleared)."""

    kind: FaultKind
    count: int | None = 1
    seconds: float | None = None
    #: Names as in the Bot API's reference; None: every method.
    methods: list[str] | None = None
    #: None: calls for any chat, and those for none.
    chat_id: int | None = None
    retry_after: int = 1
    delay: float = 1.0
    status: int = 400
    description: str = "Bad Request"
    until: float | None = field(default=None, init=False)

    def concerns(self, method: str, chat_id: int | None) -> bool:
        if self.methods is not None and method.lower() not in {name.lower() for name in self.methods}:
            return False
        return self.chat_id is None or self.chat_id == chat_id


@dataclass
class Faults:
    """The orders in force; the oldest that concerns a call is taken."""

    clock: Clock
    _orders: list[Fault] = field(default_factory=list)
    _cleared: Bell = field(default_factory=Bell)

    def order(self, fault: Fault) -> None:
        if fault.seconds is not None:
            fault.until = self.clock.time() + fault.seconds
        self._orders.append(fault)

    def clear(self) -> None:
        """Forget the orders, and end the pauses of calls under way."""
        self._orders.clear()
        self._cleared.ring()

    async def pause(self, seconds: float) -> None:
        """Hold up a call."""
        waits = {asyncio.ensure_future(self.clock.sleep(seconds)), asyncio.ensure_future(self._cleared.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def take(self, method: str, chat_id: int | None) -> Fault | None:
        """The fault that this call meets, counted."""
        self._drop_ended()
        for fault in self._orders:
            if fault.concerns(method, chat_id):
                if fault.count is not None:
                    fault.count -= 1
                return fault
        return None

    def listing(self) -> list[Json]:
        self._drop_ended()
        now = self.clock.time()
        return [
            {
                "kind": fault.kind.value,
                "count": fault.count,
                "seconds": None if fault.until is None else max(0.0, fault.until - now),
                "methods": fault.methods,
                "chat_id": fault.chat_id,
            }
            for fault in self._orders
        ]

    def _drop_ended(self) -> None:
        now = self.clock.time()
        self._orders = [
            fault
            for fault in self._orders
            if (fault.count is None or fault.count > 0) and (fault.until is None or fault.until > now)
        ]
