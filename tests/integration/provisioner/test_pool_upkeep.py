"""What the pool begins, and when: one thing at a time, after everybody else, within the machine's room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select

from bot.hostfacts import HostFacts
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.pool import Pool, claim
from bot.provisioner.pool.claiming import withdraw
from bot.provisioner.pool.upkeep import OLDEST, QUIET
from bot.provisioner.sleep import Room
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, User, UserStatus

GIB = 1 << 30
PLENTY = Room(total_bytes=16 * GIB, available_bytes=12 * GIB, swap_total_bytes=16 * GIB, swap_free_bytes=16 * GIB)
NO_SWAP = Room(total_bytes=16 * GIB, available_bytes=12 * GIB, swap_total_bytes=0, swap_free_bytes=0)
FULL_SWAP = Room(total_bytes=16 * GIB, available_bytes=12 * GIB, swap_total_bytes=16 * GIB, swap_free_bytes=GIB)
LITTLE = Room(total_bytes=16 * GIB, available_bytes=2 * GIB, swap_total_bytes=16 * GIB, swap_free_bytes=16 * GIB)
SHORT = Room(total_bytes=16 * GIB, available_bytes=GIB // 4, swap_total_bytes=16 * GIB, swap_free_bytes=16 * GIB)


@dataclass
class Machine:
    """A pool on a machine that the test describes, and what it began."""

    database: Database
    image: str
    pool: Pool = field(init=False)
    room: Room = PLENTY
    busy: bool = False
    at: float = 0.0
    begun: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)

    async def add(self, number: int = 1, **changes: Any) -> str:
        """A member that is warm and asleep."""
        values: dict[str, Any] = {
            "id": f"u-member{number:04d}",
            "plan": "standard",
            "image": self.image,
            "container": ContainerState.PAUSED,
            "warmed_at": now(),
            "created_at": now() - 60.0 + number,
        }
        async with self.database.write() as session:
            session.add(Instance(**{**values, **changes}))
        return str(values["id"])

    async def add_person(self, number: int) -> None:
        """Somebody who came just now, with an instance of their own."""
        async with self.database.write() as session:
            user = User(telegram_id=number, status=UserStatus.ACTIVE, created_at=now())
            session.add(user)
            await session.flush()
        await self.add(1000 + number, user_id=user.id, created_at=now())

    async def members(self) -> list[Instance]:
        async with self.database.read() as session:
            return list(await session.scalars(select(Instance).where(Instance.user_id.is_(None))))

    async def step(self) -> list[tuple[str, str | None]]:
        """The instances that one look begins to work on, and why they are deleted; None: they are made."""
        del self.begun[:]
        await self.pool.step()
        async with self.database.read() as session:
            return [(each, (await session.get_one(Instance, each)).failure) for each in self.begun]

    async def deleted(self) -> list[str]:
        """The instances that one look begins to delete; they are gone then."""
        begun = await self.step()
        for instance_id, reason in begun:
            assert reason
            await self.remove(instance_id)
        return [instance_id for instance_id, _ in begun]

    async def remove(self, instance_id: str) -> None:
        async with self.database.write() as session:
            await session.delete(await session.get_one(Instance, instance_id))


@pytest.fixture
def make_machine(
    database: Database, make_settings: Callable[..., Settings], host_facts: HostFacts
) -> Callable[..., Machine]:
    """A machine on which nobody has done anything for a while."""

    def make(most: int = 3) -> Machine:
        context = SimpleNamespace(database=database, settings=make_settings(pool=most), host=host_facts)
        machine = Machine(database, host_facts.image)

        async def give_back(instance_id: str) -> None:
            machine.swapped.append(instance_id)

        machine.pool = Pool(
            cast(ProvisionerContext, context),
            machine.begun.append,
            give_back,
            lambda: machine.busy,
            room=lambda: machine.room,
            clock=lambda: machine.at,
        )
        machine.at = QUIET
        return machine

    return make


@pytest.fixture
def machine(make_machine: Callable[..., Machine]) -> Machine:
    """The same with a pool of three at most."""
    return make_machine()


async def test_an_empty_pool_gets_a_member_and_then_rests(machine: Machine) -> None:
    ((instance_id, reason),) = await machine.step()
    assert reason is None
    (member,) = await machine.members()
    assert (member.id, member.user_id, member.plan, member.image) == (instance_id, None, "standard", machine.image)
    async with machine.database.write() as session:
        instance = await session.get_one(Instance, instance_id)
        instance.warmed_at, instance.container = now(), ContainerState.PAUSED
    assert await machine.step() == []


async def test_what_was_begun_before_a_restart_is_gone_on_with(machine: Machine) -> None:
    instance_id = await machine.add(warmed_at=None, container=ContainerState.CREATED)
    assert await machine.step() == [(instance_id, None)]


async def test_what_waits_for_another_try_is_left_alone(machine: Machine) -> None:
    await machine.add(warmed_at=None, container=ContainerState.CREATED, next_look_at=now() + 60)
    assert await machine.step() == []


async def test_people_go_first(machine: Machine) -> None:
    machine.busy = True
    assert await machine.step() == []
    machine.busy = False
    machine.at += QUIET - 1
    assert await machine.step() == []
    machine.at += 1
    assert len(await machine.step()) == 1


async def test_nothing_is_begun_right_after_the_start(machine: Machine) -> None:
    machine.at = QUIET - 1
    assert await machine.step() == []


@pytest.mark.parametrize(
    ("flaw", "word"),
    [
        ({"failure": "Its first turn failed."}, "failed"),
        ({"image": "sha256:" + "f" * 64}, "image"),
        ({"plan": "former"}, "plan"),
        ({"created_at": -OLDEST}, "waited"),
        ({"container": ContainerState.EXITED}, "warm"),
        ({"container": ContainerState.NONE}, "warm"),
    ],
    ids=str,
)
async def test_a_member_that_is_of_no_use_is_deleted(machine: Machine, flaw: dict[str, Any], word: str) -> None:
    if "created_at" in flaw:
        flaw = {"created_at": now() + flaw["created_at"] - 1}
    instance_id = await machine.add(**flaw)
    ((begun, reason),) = await machine.step()
    assert begun == instance_id
    assert reason is not None
    assert word in reason


async def test_after_a_failure_the_next_try_waits_longer_each_time(machine: Machine) -> None:
    for pause in (60.0, 120.0, 240.0):
        instance_id = await machine.add(failure="It broke.")
        assert await machine.deleted() == [instance_id]
        machine.at += pause - 1
        assert await machine.step() == []
        machine.at += 1
        ((another, reason),) = await machine.step()
        assert reason is None
        await machine.remove(another)


async def test_a_member_that_somebody_has_claimed_meanwhile_is_not_deleted(machine: Machine) -> None:
    instance_id = await machine.add(image="sha256:" + "f" * 64)
    (member,) = await machine.members()
    async with machine.database.write() as session:
        user = User(telegram_id=1, status=UserStatus.ACTIVE, created_at=now())
        session.add(user)
        await session.flush()
        assert await claim(session, user.id, member.plan, member.image) == instance_id
    async with machine.database.write() as session:
        assert not await withdraw(session, instance_id, "It is of no use.")
    async with machine.database.read() as session:
        assert (await session.get_one(Instance, instance_id)).failure is None


async def test_nobody_gets_a_member_that_is_being_deleted(machine: Machine) -> None:
    instance_id = await machine.add()
    async with machine.database.write() as session:
        assert await withdraw(session, instance_id, "It is of no use.")
        assert await claim(session, 1, "standard", machine.image) is None


@pytest.mark.parametrize("room", [NO_SWAP, FULL_SWAP, LITTLE], ids=["no swap", "full swap", "little memory"])
async def test_without_room_none_is_made_and_none_is_lost(machine: Machine, room: Room) -> None:
    machine.room = room
    assert await machine.step() == []
    await machine.add()
    assert await machine.step() == []


async def test_members_go_before_anybody_is_put_to_sleep_for_memory(machine: Machine) -> None:
    first = await machine.add(1)
    machine.room = SHORT
    assert await machine.step() == []
    assert machine.swapped == [first]
    assert await machine.deleted() == [first]


async def test_the_one_that_the_next_person_gets_stays_in_memory_while_there_is_plenty(machine: Machine) -> None:
    older = await machine.add(1, warmed_at=1000.0)
    newest = await machine.add(2, warmed_at=2000.0)
    machine.busy = True
    for _ in range(3):
        assert await machine.step() == []
    assert machine.swapped == [older]
    machine.room = LITTLE
    for _ in range(3):
        assert await machine.step() == []
    assert machine.swapped == [older, newest]


async def test_it_grows_with_those_who_come_and_shrinks_again(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(most=3)
    await machine.add(1)
    assert await machine.step() == []
    for number in range(200):
        await machine.add_person(number)
    ((_, reason),) = await machine.step()
    assert reason is None
    await machine.add(2)
    await machine.add(3)
    assert await machine.deleted() == ["u-member0001"]


async def test_an_operator_who_wants_none_gets_rid_of_those_there_are(make_machine: Callable[..., Machine]) -> None:
    machine = make_machine(most=0)
    instance_id = await machine.add()
    assert await machine.deleted() == [instance_id]
    assert await machine.step() == []
