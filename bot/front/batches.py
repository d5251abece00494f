"""Work that is cheaper for many than for each: whoever comes while a batch is under way is in the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """One batch at a time; alone, an item waits for nothing, and in a crowd it shares a commit or a query."""

    def __init__(self, work: Callable[[list[Item]], Awaitable[list[Result]]], most: int) -> None:
        """`work` gives a result for each item, in their order; it gets at most `most` items at once."""
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """The item's result; raises what the work of its batch raised."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await result

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            # Whoever was cancelled meanwhile no longer asks.
            batch = [(item, result) for item, result in batch if not result.done()]
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:
                for _, result in batch:
                    if not result.done():
                        result.set_exception(error)
                continue
            for (_, result), value in zip(batch, results, strict=True):
                if not result.done():
                    result.set_result(value)
