"""What all model calls of a front share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from bot.front import metrics
from bot.front.context import FrontContext
from bot.front.models.breaker import CircuitBreaker
from bot.front.models.errors import too_many_calls
from bot.front.models.ledger import Ledger
from bot.front.models.requests import ChatRequest, parse
from bot.front.models.room import Room
from bot.front.models.upstream import Upstream
from bot.front.outbox import Outbox

#: Calls that one instance may have under way.
MAX_CALLS = 8
#: Requests that are parsed at a time; each takes several times its bytes meanwhile.
_PARSING = 2


class ModelsState:
    """The provider, the breaker before it, and the account; one for a front, closed at its end."""

    def __init__(self, context: FrontContext, outbox: Outbox, breaker: CircuitBreaker | None = None) -> None:
        self.upstream = Upstream(context.settings, context.http)
        self.breaker = breaker or CircuitBreaker()
        self.ledger = Ledger(context, outbox)
        self.room = Room()
        self._parsing = asyncio.Semaphore(_PARSING)
        self._running: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        metrics.MODEL_BREAKER_OPEN.set_function(lambda: float(self.open))

    @property
    def open(self) -> bool:
        """Whether the breaker refuses calls now, so that messages had better wait."""
        return self.breaker.open

    def begin(self, instance_id: str) -> None:
        """Count a call of an instance in; raises where it has too many under way."""
        if self._running[instance_id] >= MAX_CALLS:
            raise too_many_calls(MAX_CALLS)
        self._running[instance_id] += 1

    def end(self, instance_id: str) -> None:
        """Count a call out."""
        self._running[instance_id] -= 1
        if self._running[instance_id] <= 0:
            del self._running[instance_id]

    async def parse(self, raw: bytes) -> ChatRequest:
        """A request's body for the provider, read beside the event loop; raises :class:`ModelError`."""
        async with self._parsing:
            return await asyncio.to_thread(parse, raw, self.upstream.model)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that the end of a request must not cut off."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Wait until all accounts are settled."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        await self.upstream.close()
