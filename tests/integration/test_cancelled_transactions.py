"""A task that is cancelled in the middle of a transaction leaves no lock behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import func, select

from bot.settings import Settings
from bot.store import Database
from bot.store.tables import User, Wish
from bot.users import admission, people, places


async def test_the_next_one_can_write_wherever_the_last_was_cut_off(
    database: Database, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(admission="open", max_instances=1000)

    async def arrive(telegram_id: int) -> None:
        async with database.write() as session:
            user = await people.remember(session, telegram_id, "Ada")
            await admission.admit(session, settings, user)

    for number in range(1, 61):
        cut = asyncio.create_task(arrive(number))
        await asyncio.sleep(number * 0.0004)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        await arrive(1000 + number)
    async with database.read() as session:
        people_in = await session.scalar(select(func.count()).select_from(User))
        assert people_in is not None
        assert people_in >= 60
        # Each of them is in with all that belongs to it, or not at all.
        assert await session.scalar(select(func.count()).select_from(Wish)) == people_in
        assert await places.taken(session) == people_in
