"""Operations: what is being done to an instance, visible to everybody while it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy import and_, or_, select, update

from bot.nudge import Nudge, Topic
from bot.store import Database, now
from bot.store.tables import Instance, Operation, OperationKind
from bot.timeline import Stage, note

_log = structlog.get_logger(__name__)


async def close_dead(database: Database) -> None:
    """Close the operations that nobody is at work on: of a process that died, or that could not write their end."""
    free = select(Instance.id).where(or_(Instance.lease_owner.is_(None), Instance.lease_until < now()))
    dead = and_(Operation.finished_at.is_(None), Operation.instance_id.in_(free))
    async with database.read() as session:
        if await session.scalar(select(Operation.id).where(dead).limit(1)) is None:
            return
    async with database.write() as session:
        await session.execute(update(Operation).where(dead).values(finished_at=now(), error="interrupted"))


class Recorder:
    """Writes an open operation's stages; each is a commit and a nudge, so that the front can show it."""

    def __init__(
        self, database: Database, nudge: Nudge, operation_id: int, instance_id: str, telegram_id: int | None
    ) -> None:
        self._database = database
        self._nudge = nudge
        self._operation_id = operation_id
        self._instance_id = instance_id
        self._telegram_id = telegram_id

    async def stage(self, stage: Stage, detail: str = "", **columns: Any) -> None:
        """Note the stage, with the instance's columns that change at it, in one commit."""
        async with self._database.write() as session:
            await session.execute(update(Operation).where(Operation.id == self._operation_id).values(stage=stage))
            if columns:
                await session.execute(update(Instance).where(Instance.id == self._instance_id).values(**columns))
            if self._telegram_id is not None:
                note(session, self._telegram_id, stage, detail)
        self._nudge.ring(Topic.INSTANCES)
        _log.info("instance", instance=self._instance_id, stage=stage.value, detail=detail)


@asynccontextmanager
async def operation(
    database: Database, nudge: Nudge, instance: Instance, telegram_id: int | None, kind: OperationKind
) -> AsyncIterator[Recorder]:
    """An open operation during the block; `telegram_id` None: nobody's instance.

    The caller holds the instance's lease, so an older open one is a dead process's.
    """
    async with database.write() as session:
        await session.execute(
            update(Operation)
            .where(Operation.instance_id == instance.id, Operation.finished_at.is_(None))
            .values(finished_at=now(), error="interrupted")
        )
        row = Operation(instance_id=instance.id, kind=kind, started_at=now())
        session.add(row)
        await session.flush()
        operation_id = row.id
    error: str | None = "interrupted"
    try:
        yield Recorder(database, nudge, operation_id, instance.id, telegram_id)
        error = None
    except Exception as failure:
        error = str(failure)
        raise
    finally:
        async with database.write() as session:
            await session.execute(
                update(Operation).where(Operation.id == operation_id).values(finished_at=now(), error=error)
            )
        nudge.ring(Topic.INSTANCES)
