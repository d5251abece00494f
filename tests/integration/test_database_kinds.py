from __future__ import annotations

import asyncio

from sqlalchemy import insert, select, update

from bot.store import Database
from bot.store.tables import Counter


async def test_concurrent_read_then_write_loses_nothing(database: Database) -> None:
    async with database.write() as session:
        await session.execute(insert(Counter).values(name="tried", value=0))

    async def add_one() -> None:
        async with database.write() as session:
            await session.execute(update(Counter).values(value=Counter.value + 1))

    await asyncio.gather(*(add_one() for _ in range(40)))
    async with database.read() as session:
        assert await session.scalar(select(Counter.value)) == 40


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    await database.migrate()
    await database.ping()
