"""A message to a demo that runs in another process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import select

from bot.demo.app import wish_for_rest
from bot.demo.say import Answer, Watch, say
from bot.demo.settings import demo_database
from bot.standins.telegram import SimulatorClient
from bot.store import Database
from bot.store.tables import ContainerState, Instance, User

#: Seconds that the running demo gets to stop the instance; a gateway may drain a turn first.
_STOP_WITHIN = 60.0
_LOOK_EVERY = 0.2


async def visit(state: Path, page: str, text: str, watch: Watch) -> Answer:
    """Send the text as somebody new to the demo at `page`, and let it stop that person's instance afterwards."""
    database = Database(demo_database(state))
    try:
        async with SimulatorClient(page) as people:
            person = await people.new_user()
            try:
                return await say(people, database, person, text, watch)
            finally:
                await wish_for_rest(database, person.id)
                async with asyncio.timeout(_STOP_WITHIN):
                    await _until_stopped(database, person.id)
    finally:
        await database.close()


async def _until_stopped(database: Database, telegram_id: int) -> None:
    query = select(Instance.container).join(User, User.id == Instance.user_id).where(User.telegram_id == telegram_id)
    while True:
        async with database.read() as session:
            if await session.scalar(query) != ContainerState.RUNNING:
                return
        await asyncio.sleep(_LOOK_EVERY)
