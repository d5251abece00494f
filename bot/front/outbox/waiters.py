"""Who waits for the answer to which row."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any


class Waiters:
    """Futures by row; several may wait for one row, as an edit of a waiting message becomes part of its row."""

    def __init__(self) -> None:
        self._futures: dict[int, set[asyncio.Future[dict[str, Any]]]] = defaultdict(set)

    def add(self, row: int) -> asyncio.Future[dict[str, Any]]:
        """A future that gets the row's answer."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._futures[row].add(future)
        return future

    def remove(self, row: int, future: asyncio.Future[dict[str, Any]]) -> None:
        """The answer is no longer waited for."""
        waiting = self._futures.get(row)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._futures[row]

    def any(self, row: int) -> bool:
        """Whether somebody waits for the row's answer."""
        return row in self._futures

    def answer(self, row: int, answer: dict[str, Any]) -> None:
        """Give everybody who waits the row's answer."""
        for future in self._futures.pop(row, ()):
            if not future.done():
                future.set_result(answer)
