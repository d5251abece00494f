"""Who may wake, and when."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from bot.provisioner.sleep import admission as gate
from bot.provisioner.sleep.admission import WakeAdmission
from bot.provisioner.sleep.pressure import reserve
from bot.provisioner.sleep.room import Room

GIB = 1 << 30


class Machine:
    """A machine of 16 GiB on which `awake` instances are awake."""

    def __init__(self, free_gib: int = 0, awake: int = 1) -> None:
        self.awake = awake
        self.asked: list[int] = []
        self.told: list[tuple[str, str]] = []
        self.frees: Callable[[], None] = lambda: None
        self.set_free(free_gib)
        self.admission = WakeAdmission(self._count, self._free, self._waits, lambda: self.room)

    def set_free(self, gib: float) -> None:
        room = Room(16 * GIB, 0, 16 * GIB, 16 * GIB)
        self.room = dataclasses.replace(room, available_bytes=int(gib * GIB) + reserve(room))

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not reached():
                await asyncio.sleep(0)

    async def _count(self, instance_id: str) -> int:
        return self.awake

    async def _free(self, count: int) -> None:
        self.asked.append(count)
        self.frees()

    async def _waits(self, instance_id: str, reason: str) -> None:
        self.told.append((instance_id, reason))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(gate, "FREE_EVERY", 0.002)
    monkeypatch.setattr(gate, "SETTLES_WITHIN", 0.01)


async def test_where_there_is_room_nobody_waits() -> None:
    machine = Machine(free_gib=2)
    async with machine.admission.admit("u-1", GIB):
        assert machine.admission.promised_bytes == GIB
    assert machine.told == []
    assert machine.asked == []


async def test_wake_waits_for_room_and_asks_for_it() -> None:
    machine = Machine()
    machine.frees = lambda: machine.set_free(1) if len(machine.asked) == 2 else None
    async with asyncio.timeout(10), machine.admission.admit("u-1", GIB):
        pass
    assert machine.asked == [GIB, GIB]
    [(instance, reason)] = machine.told
    assert instance == "u-1"
    assert "It needs 1.0 GiB" in reason


async def test_those_admitted_before_their_memory_shows_count() -> None:
    machine = Machine(free_gib=1)
    woken = asyncio.Event()

    async def second() -> None:
        async with machine.admission.admit("u-2", GIB):
            woken.set()

    async with machine.admission.admit("u-1", GIB):
        waiting = asyncio.create_task(second())
        await machine.until(lambda: len(machine.asked) > 0)
        assert not woken.is_set()
        # Both needs, since the room that is there is promised.
        assert machine.asked[0] == 2 * GIB
    async with asyncio.timeout(10):
        await waiting


async def test_first_come_is_first_served_also_where_the_second_needs_less() -> None:
    machine = Machine()
    order: list[str] = []

    async def wake(instance_id: str, needs: int) -> None:
        async with machine.admission.admit(instance_id, needs):
            order.append(instance_id)

    async with asyncio.timeout(10), asyncio.TaskGroup() as wakes:
        wakes.create_task(wake("u-1", 2 * GIB))
        await machine.until(lambda: len(machine.told) == 1)
        wakes.create_task(wake("u-2", GIB // 2))
        wakes.create_task(wake("u-3", GIB // 2))
        await machine.until(lambda: len(machine.told) == 3)
        machine.set_free(1)
        await machine.until(lambda: len(machine.asked) > 3)
        assert order == []
        machine.set_free(4)
    assert order == ["u-1", "u-2", "u-3"]


async def test_somebody_is_always_awake() -> None:
    machine = Machine(awake=0)
    async with asyncio.timeout(10), machine.admission.admit("u-1", 99 * GIB):
        pass
    assert machine.asked == []


async def test_one_that_gives_up_lets_the_next_one_in() -> None:
    machine = Machine()
    first = asyncio.create_task(machine.admission.admit("u-1", 8 * GIB).__aenter__())
    await machine.until(lambda: len(machine.told) == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    machine.set_free(1)
    async with asyncio.timeout(10), machine.admission.admit("u-2", GIB):
        assert machine.admission.promised_bytes == GIB


async def test_wake_that_failed_gives_its_promise_back_at_once() -> None:
    machine = Machine(free_gib=1)
    with pytest.raises(RuntimeError, match="no start"):
        async with machine.admission.admit("u-1", GIB):
            raise RuntimeError("no start")
    assert machine.admission.promised_bytes == 0


async def test_failure_to_make_room_ends_no_wait() -> None:
    machine = Machine()

    def fail() -> None:
        machine.set_free(1)
        raise RuntimeError("Docker is away")

    machine.frees = fail
    async with asyncio.timeout(10), machine.admission.admit("u-1", GIB):
        pass
    assert machine.asked == [GIB]
