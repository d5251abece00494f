"""Work that many ask for at a time and that is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Flights:
    """What is under way, by a key; it goes on when whoever asked for it leaves."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    def under_way(self, key: Hashable) -> bool:
        """Whether somebody has begun it."""
        return key in self._under_way

    async def once(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the work, or what it raises, for everybody who asks before it is done."""
        task = self._under_way.get(key)
        if task is None:

            async def fly() -> Result:
                return await work()

            task = self._under_way[key] = asyncio.create_task(fly())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            # Looked at, so that one whose askers all left is no unheard error.
            task.exception()
