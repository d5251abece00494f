"""Shows on the chat page what the service notes in its timeline."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
from sqlalchemy import func, select

from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatorError
from bot.store import Database
from bot.store.tables import TimelineEntry

_LOOK_EVERY = 0.2


async def mirror_timeline(database: Database, people: SimulatorClient) -> None:
    """Post each entry that is new from now on to the simulator, until cancelled."""
    async with database.read() as session:
        last = await session.scalar(select(func.max(TimelineEntry.id))) or 0
    while True:
        query = select(TimelineEntry).where(TimelineEntry.id > last).order_by(TimelineEntry.id)
        async with database.read() as session:
            entries = list(await session.scalars(query))
        for entry in entries:
            # Somebody of an earlier demo, or a page that is just going down.
            with contextlib.suppress(SimulatorError, httpx.TransportError):
                await people.add_timeline(entry.telegram_id, entry.stage, entry.detail, entry.at)
            last = entry.id
        await asyncio.sleep(_LOOK_EVERY)
