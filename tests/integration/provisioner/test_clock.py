"""A clock that was put back: what was written down before must not wait for the size of the step."""

from __future__ import annotations

from bot.provisioner import clock
from bot.provisioner.decision import LOOK_ANYWAY
from bot.provisioner.lease import LEASE
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance

DAY = 24 * 3600.0
ID = "u-aaaaaaaaaa"


async def stored(database: Database, **columns: float | None) -> Instance:
    """An instance with these times, after the clock was set right."""
    async with database.write() as session:
        session.add(
            Instance(
                id=ID,
                plan="standard",
                image="sha256:" + "0" * 64,
                container=ContainerState.PAUSED,
                created_at=now(),
                **columns,
            )
        )
    await clock.set_right(database)
    async with database.read() as session:
        return await session.get_one(Instance, ID)


async def test_times_that_lie_too_far_ahead_are_brought_back(database: Database) -> None:
    ahead = now() + DAY
    row = await stored(
        database, next_look_at=ahead, lease_until=ahead, ready_at=ahead, resting_since=ahead, rest_told_at=ahead
    )
    at = now()
    assert row.next_look_at is not None
    assert row.next_look_at <= at
    assert row.lease_until <= at + LEASE
    for past in (row.ready_at, row.resting_since, row.rest_told_at):
        assert past is not None
        assert past <= at


async def test_times_that_can_be_stay_as_they_are(database: Database) -> None:
    looks, since = now() + LOOK_ANYWAY - 5, now() - DAY
    row = await stored(database, next_look_at=looks, resting_since=since, ready_at=None, rest_told_at=None)
    assert (row.next_look_at, row.resting_since, row.ready_at, row.rest_told_at) == (looks, since, None, None)
