"""Operations that nobody is at work on do not stay open."""

from __future__ import annotations

from sqlalchemy import select

from bot.provisioner.lease import new_owner
from bot.provisioner.operations import close_dead
from bot.store import Database, now
from bot.store.tables import Instance, Operation, OperationKind

AT_WORK, DONE, LATE = "u-aaaaaaaaaa", "u-bbbbbbbbbb", "u-cccccccccc"


async def test_only_the_operation_of_a_live_lease_stays_open(database: Database) -> None:
    leases = {
        AT_WORK: {"lease_owner": new_owner(), "lease_until": now() + 30},
        DONE: {},
        LATE: {"lease_owner": new_owner(), "lease_until": now() - 1},
    }
    async with database.write() as session:
        for instance_id, columns in leases.items():
            session.add(Instance(id=instance_id, plan="standard", image="sha256:0", created_at=now(), **columns))
            session.add(Operation(instance_id=instance_id, kind=OperationKind.CREATE, started_at=now()))
    await close_dead(database)
    async with database.read() as session:
        found = {row.instance_id: row for row in await session.scalars(select(Operation))}
    assert found[AT_WORK].finished_at is None
    for instance_id in (DONE, LATE):
        assert found[instance_id].finished_at is not None
        assert found[instance_id].error == "interrupted"
