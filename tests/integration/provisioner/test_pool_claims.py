"""Somebody new and the warm pool: each member goes to one person, and only one that is of use goes to anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from bot.provisioner.pool import claim
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, Operation, OperationKind, User, UserStatus

IMAGE = "sha256:" + "a" * 64


def member(number: int = 0, **changes: Any) -> Instance:
    """One that is warm and asleep."""
    values: dict[str, Any] = {
        "id": f"u-member{number:04d}",
        "user_id": None,
        "plan": "standard",
        "image": IMAGE,
        "container": ContainerState.PAUSED,
        "resting_since": 1000.0,
        "warmed_at": 1000.0 + number,
        "created_at": 900.0,
    }
    return Instance(**{**values, **changes})


async def people(database: Database, count: int, first: int = 1000) -> Sequence[int]:
    """That many people, with Telegram ids from `first` on; their rows' ids."""
    ids = range(first, first + count)
    async with database.write() as session:
        new = [User(telegram_id=telegram_id, status=UserStatus.ACTIVE, created_at=now()) for telegram_id in ids]
        session.add_all(new)
        await session.flush()
        return [user.id for user in new]


async def add(database: Database, *members: Instance) -> None:
    async with database.write() as session:
        session.add_all(members)


async def claimed_by(database: Database, user_id: int, plan: str = "standard", image: str = IMAGE) -> str | None:
    async with database.write() as session:
        return await claim(session, user_id, plan, image)


async def owners(database: Database) -> dict[str, int | None]:
    async with database.read() as session:
        return {instance.id: instance.user_id for instance in await session.scalars(select(Instance))}


async def test_the_newest_one_becomes_the_persons(database: Database) -> None:
    await add(database, member(2), member(3), member(1))
    (ada,) = await people(database, 1)
    before = now()
    assert await claimed_by(database, ada) == "u-member0003"
    async with database.read() as session:
        instance = await session.get_one(Instance, "u-member0003")
    assert instance.user_id == ada
    assert instance.created_at >= before
    # It is worked on at once, and asleep until then.
    assert instance.next_look_at is not None
    assert instance.next_look_at <= now()
    assert instance.container == ContainerState.PAUSED


@pytest.mark.parametrize(
    "flaw",
    [
        {"warmed_at": None},
        {"container": ContainerState.RUNNING},
        {"container": ContainerState.EXITED},
        {"container": ContainerState.NONE},
        {"failure": "It broke."},
        {"plan": "another"},
        {"image": "sha256:" + "b" * 64},
        {"lease_owner": "somebody", "lease_until": 4e9},
    ],
    ids=str,
)
async def test_one_that_is_of_no_use_goes_to_nobody(database: Database, flaw: dict[str, Any]) -> None:
    await add(database, member(1, **flaw))
    (ada,) = await people(database, 1)
    assert await claimed_by(database, ada) is None
    assert await owners(database) == {"u-member0001": None}


async def test_a_lease_that_is_over_keeps_nobody_out(database: Database) -> None:
    await add(database, member(1, lease_owner="somebody", lease_until=now() - 1))
    (ada,) = await people(database, 1)
    assert await claimed_by(database, ada) == "u-member0001"


async def test_one_that_is_just_falling_asleep_is_taken(database: Database) -> None:
    await add(database, member(1, lease_owner="somebody", lease_until=4e9))
    (ada,) = await people(database, 1)
    async with database.write() as session:
        session.add(Operation(instance_id="u-member0001", kind=OperationKind.DELETE, started_at=now()))
    assert await claimed_by(database, ada) is None
    async with database.write() as session:
        await session.execute(update(Operation).values(kind=OperationKind.SLEEP))
    assert await claimed_by(database, ada) == "u-member0001"


async def test_another_persons_instance_is_never_given_away(database: Database) -> None:
    ada, grace = await people(database, 2)
    await add(database, member(1, user_id=ada))
    assert await claimed_by(database, grace) is None
    assert await owners(database) == {"u-member0001": ada}


@pytest.mark.parametrize(("members", "newcomers"), [(1, 8), (5, 20), (12, 6)])
async def test_all_at_once_get_one_each_and_never_the_same(database: Database, members: int, newcomers: int) -> None:
    for again in range(5):
        await add(database, *(member(100 * again + number) for number in range(members)))
        ids = await people(database, newcomers, first=1000 * (again + 1))
        taken = await asyncio.gather(*(claimed_by(database, user_id) for user_id in ids))
        given = [instance_id for instance_id in taken if instance_id is not None]
        assert len(given) == len(set(given)) == min(members, newcomers)
        found = await owners(database)
        expected = dict(zip(taken, ids, strict=True))
        assert {instance_id: found[instance_id] for instance_id in given} == {each: expected[each] for each in given}
        await empty(database)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_nobody_waits_for_somebody_elses_claim(database: Database) -> None:
    """On SQLite, where there is one writer at a time, this cannot happen."""
    await add(database, member(1), member(2))
    ada, grace = await people(database, 2)
    async with database.write() as session:
        assert await claim(session, ada, "standard", IMAGE) == "u-member0002"
        async with asyncio.timeout(10):
            assert await claimed_by(database, grace) == "u-member0001"
    assert await owners(database) == {"u-member0002": ada, "u-member0001": grace}


async def empty(database: Database) -> None:
    async with database.write() as session:
        for instance in await session.scalars(select(Instance)):
            await session.delete(instance)
