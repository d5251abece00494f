"""A wake-up call for many waiters at once."""

import asyncio


class Bell:
    """Wakes everyone who waits at the moment it rings.

    Between looking at a state and waiting for its change there must be no other `await`; then no ring is missed.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Whether it rang within `seconds` of real time (None: wait for ever)."""
        try:
            async with asyncio.timeout(seconds):
                await self._next.wait()
        except TimeoutError:
            return False
        return True
