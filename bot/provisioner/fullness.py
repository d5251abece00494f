"""How full the disks of instances are that may write: their people are told before nothing fits any more."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import select, update

from bot.nudge import Topic
from bot.provisioner import disks
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.disks import FULL, DiskUse
from bot.store import now
from bot.store.tables import Announcement, ContainerState, Instance, News, User

_log = structlog.get_logger(__name__)

#: Seconds between two looks.
LOOK_EVERY = 60.0
#: Percent from which a person is told, and below which they would be told again.
WARN = 80
CALM = 70


def told_of(percent: int, told: int | None) -> int | None:
    """What a person has been told of once this is seen: 80, 100, or nothing; `told` is what they were told of before.

    Where it is more than before they are to be told now.
    """
    if percent >= FULL:
        return 100
    if percent >= WARN:
        return max(told or 0, WARN)
    return None if percent < CALM else told


class Fullness:
    """Looks at each disk, and has its person told once of each of the two steps."""

    def __init__(self, context: ProvisionerContext) -> None:
        self._context = context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """One round."""
        query = (
            select(Instance.id, Instance.volumes, Instance.disk_told, User.telegram_id)
            .outerjoin(User, User.id == Instance.user_id)
            .where(
                Instance.volumes.is_not(None),
                Instance.resting_since.is_(None),
                Instance.container.in_((ContainerState.RUNNING, ContainerState.EXITED)),
            )
        )
        async with self._context.database.read() as session:
            rows = (await session.execute(query)).all()
        uses = await asyncio.to_thread(lambda: [disks.use(row.volumes, row.id) for row in rows])
        for row, use in zip(rows, uses, strict=True):
            told = told_of(use.percent, row.disk_told) if use is not None else row.disk_told
            if use is not None and told != row.disk_told:
                await self._note(row.id, row.telegram_id, use, row.disk_told, told)

    async def _note(
        self, instance_id: str, telegram_id: int | None, use: DiskUse, before: int | None, told: int | None
    ) -> None:
        louder = (told or 0) > (before or 0)
        as_seen = Instance.id == instance_id, Instance.disk_told.is_not_distinct_from(before)
        async with self._context.database.write() as session:
            noted = await session.scalars(
                update(Instance).where(*as_seen).values(disk_told=told).returning(Instance.id)
            )
            if louder and noted.one_or_none() is not None and telegram_id is not None:
                detail = {"percent": told, "of": use.short_of}
                session.add(Announcement(telegram_id=telegram_id, news=News.DISK, detail=detail, created_at=now()))
        if louder:
            _log.warning("a disk fills up", instance=instance_id, use=str(use))
            self._context.nudge.ring(Topic.INSTANCES)
