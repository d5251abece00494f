"""The gate before a wake: it waits for room rather than letting the machine thrash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from bot.provisioner.sleep.pressure import may_wake
from bot.provisioner.sleep.room import Room, read_room

_log = structlog.get_logger(__name__)

#: Seconds between two looks at the room, and between two requests to free some.
LOOK_EVERY = 0.2
FREE_EVERY = 1.0
#: Seconds after a wake until its memory shows in what is available: pages come back as they are touched.
SETTLES_WITHIN = 5.0


class NotWanted(Exception):
    """Whoever waited for room is not to be woken any more."""


async def _always() -> bool:
    return True


class WakeAdmission:
    """Lets instances wake one after the other, as the room allows, first come first served."""

    def __init__(
        self,
        awake: Callable[[str], Awaitable[int]],
        free: Callable[[int], Awaitable[None]],
        waits: Callable[[str, str], Awaitable[None]],
        room: Callable[[], Room] = read_room,
    ) -> None:
        """Args:
        awake: How many instances besides this one are awake; without any, a wake never waits.
        free: Puts the longest idle to sleep, for so many bytes; called while somebody waits. It may fail.
        waits: Told an instance that waits, and why; again whenever the reason changes.
        room: Looks at the machine.
        """
        self._awake = awake
        self._free = free
        self._waits = waits
        self._room = room
        # An asyncio lock wakes its waiters in the order in which they came.
        self._turn = asyncio.Lock()
        self._promised: dict[object, int] = {}

    @property
    def promised_bytes(self) -> int:
        """Memory promised to those that were admitted and do not hold it yet."""
        return sum(self._promised.values())

    @asynccontextmanager
    async def admit(
        self, instance_id: str, needs_bytes: int, wanted: Callable[[], Awaitable[bool]] = _always
    ) -> AsyncIterator[None]:
        """Wait until there are `needs_bytes` for the instance, which are its own during the block and shortly after.

        `wanted`: whether it is still to be woken; asked now and then. Raises :class:`NotWanted` where it is not.
        """
        if self._turn.locked():
            await self._waits(instance_id, "Others that came before it wait for memory.")
        async with self._turn:
            await self._wait_for_room(instance_id, needs_bytes, wanted)
            promise = object()
            self._promised[promise] = needs_bytes
        try:
            yield
        except BaseException:
            del self._promised[promise]
            raise
        asyncio.get_running_loop().call_later(SETTLES_WITHIN, self._promised.pop, promise)

    async def _wait_for_room(self, instance_id: str, needs_bytes: int, wanted: Callable[[], Awaitable[bool]]) -> None:
        loop = asyncio.get_running_loop()
        told = ""
        free_at = loop.time()
        while not (verdict := may_wake(self._room(), needs_bytes, self.promised_bytes)):
            if not self._promised and await self._awake(instance_id) == 0:
                _log.warning("woken without room, for nothing else is awake", instance=instance_id, why=verdict.reason)
                return
            # The figures in it change with every look; who reads it needs one line a wait.
            if not told:
                told = verdict.reason
                _log.info("a wake waits for memory", instance=instance_id, why=told)
                await self._waits(instance_id, told)
            if loop.time() >= free_at:
                free_at = loop.time() + FREE_EVERY
                if not await wanted():
                    raise NotWanted("It waited for memory, and is not wanted any more.")
                await self._make_room(needs_bytes)
            await asyncio.sleep(LOOK_EVERY)

    async def _make_room(self, needs_bytes: int) -> None:
        try:
            await self._free(needs_bytes + self.promised_bytes)
        except Exception as error:
            # The wait goes on: a busy machine frees itself, and the next request may succeed.
            _log.warning("no room could be made", reason=str(error))
