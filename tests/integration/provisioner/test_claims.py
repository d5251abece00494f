"""Who wishes for an instance gets one row, however many look at the wishes at the same time."""

from __future__ import annotations

import asyncio

from sqlalchemy import select

from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.app import Provisioner
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import Instance, User, Wanted, Wish
from bot.toolchain import Toolchain


async def test_people_who_write_at_the_same_instant_get_one_instance_each(
    database: Database, settings: Settings, host_facts: HostFacts
) -> None:
    async with database.write() as session:
        users = [User(telegram_id=number, created_at=now()) for number in (7, 8)]
        session.add_all(users)
        await session.flush()
        session.add_all(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()) for user in users)
    several = [Provisioner(settings, database, Nudge(), host_facts, Toolchain.from_pins()) for _ in range(4)]
    await asyncio.gather(*(provisioner._claim_new() for provisioner in several))
    async with database.read() as session:
        rows = list(await session.scalars(select(Instance)))
    assert sorted(row.user_id or 0 for row in rows) == sorted(user.id for user in users)
    assert len({row.id for row in rows}) == 2
