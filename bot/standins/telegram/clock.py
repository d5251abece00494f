"""Time as the simulator sees it, so that tests can turn the clock on by hours."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where the simulator reads the time and waits."""

    def time(self) -> float:
        """Seconds since the epoch."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds of this clock."""


class SystemClock:
    """The machine's own time."""

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that only `advance` moves; sleepers wake when it passes their time."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._now + seconds, woken)
        self._sleepers.append(entry)
        try:
            await woken
        finally:
            if entry in self._sleepers:
                self._sleepers.remove(entry)

    def advance(self, seconds: float) -> None:
        """Move on by `seconds` and wake everyone whose time has come."""
        self._now += seconds
        for due, woken in list(self._sleepers):
            if due <= self._now and not woken.done():
                woken.set_result(None)

    def pauses(self) -> list[float]:
        """Seconds that each sleeper still has to wait, shortest first."""
        return sorted(due - self._now for due, woken in self._sleepers if not woken.done())
