"""One process at a time acts on an instance."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from bot.provisioner import lease as lease_module
from bot.provisioner.lease import LeaseHeld, LeaseLost, lease, new_owner, release_dead
from bot.store import Database, now
from bot.store.tables import Instance

ID = "u-aaaaaaaaaa"


@pytest.fixture(autouse=True)
async def _instance(database: Database) -> None:
    async with database.write() as session:
        session.add(Instance(id=ID, plan="standard", image="sha256:0", created_at=now()))


async def test_a_second_holder_is_refused_until_the_first_is_done(database: Database) -> None:
    async with lease(database, ID, new_owner()):
        with pytest.raises(LeaseHeld, match=ID):
            async with lease(database, ID, new_owner()):
                pytest.fail("two holders")
    async with lease(database, ID, new_owner()):
        pass


async def test_one_of_many_gets_it(database: Database) -> None:
    inside = 0
    most = 0

    async def work() -> bool:
        nonlocal inside, most
        try:
            async with lease(database, ID, new_owner()):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                return True
        except LeaseHeld:
            return False

    results = await asyncio.gather(*(work() for _ in range(30)))
    assert most == 1
    assert any(results)


async def test_a_lost_lease_stops_the_work(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "LEASE", 0.03)
    with pytest.raises(LeaseLost):
        async with lease(database, ID, new_owner()):
            async with database.write() as session:
                await session.execute(
                    update(Instance).where(Instance.id == ID).values(lease_owner="other", lease_until=now() + 60)
                )
            await asyncio.wait_for(asyncio.Event().wait(), 20)
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_the_lease_of_a_dead_process_is_freed(database: Database) -> None:
    mine = new_owner()
    host, pid, rest = mine.split(":")
    async with database.write() as session:
        await session.execute(
            update(Instance)
            .where(Instance.id == ID)
            .values(lease_owner=f"{host}:4194305:{rest}", lease_until=now() + 60)
        )
    await release_dead(database)
    async with lease(database, ID, mine):
        await release_dead(database)
        async with database.read() as session:
            held = await session.get(Instance, ID)
        assert held is not None
        assert held.lease_owner == f"{host}:{pid}:{rest}"


async def test_a_database_that_is_away_for_long_ends_the_work(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE", 0.06)
    taken = lease_module._take

    async def away(*_: object) -> bool:
        raise OSError("the database is away")

    with pytest.raises(LeaseLost):
        async with lease(database, ID, new_owner()):
            monkeypatch.setattr(lease_module, "_take", away)
            await asyncio.wait_for(asyncio.Event().wait(), 20)
    monkeypatch.setattr(lease_module, "_take", taken)
    async with lease(database, ID, new_owner()):
        pass


async def test_a_database_that_is_away_for_a_moment_does_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE", 0.6)
    taken = lease_module._take
    asked = asyncio.Event()
    again = asyncio.Event()

    async def once(database: Database, instance_id: str, owner: str) -> bool:
        if not asked.is_set():
            asked.set()
            raise OSError("the database is away")
        again.set()
        return await taken(database, instance_id, owner)

    async with lease(database, ID, new_owner()):
        monkeypatch.setattr(lease_module, "_take", once)
        await asyncio.wait_for(again.wait(), 20)
