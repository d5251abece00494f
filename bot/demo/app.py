"""The demo's life: host stack, simulator, service, and a rest for its instances at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, update

from bot.demo.host import ensure_host
from bot.demo.lock import DemoLock
from bot.demo.mirror import mirror_timeline
from bot.demo.settings import demo_settings, free_port, new_token
from bot.listeners import listen
from bot.provisioner.single import provisioning
from bot.serve import Service
from bot.settings import Settings
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.store import Database, now
from bot.store.tables import InboxStatus, InboxUpdate, User, Wanted, Wish

#: The chat page's port where it is free.
PAGE_PORT = 8484

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """A running demo."""

    #: The chat page, and the Bot API's root.
    page: str
    people: SimulatorClient
    service: Service


@asynccontextmanager
async def running_demo(state: Path, port: int, tell: Tell, pool: int | None = None) -> AsyncIterator[Demo]:
    """A demo during the block, with its state in a folder of its own; its instances are stopped at the end.

    `port` is the chat page's, 0 takes :data:`PAGE_PORT` or a free one; `tell` gets a few words at each step; `pool` is
    how many instances are kept ready for people who are new, None what the operator's settings say. Raises
    :class:`bot.demo.lock.DemoRunning` where another demo has the folder.
    """
    lock = DemoLock(state)
    with lock.hold():
        if port:
            listen("127.0.0.1", port, "--port").close()
        else:
            port = free_port("127.0.0.1", PAGE_PORT)
        tell("declaring the instances' network")
        host = await ensure_host(state)
        tell("starting the simulator and the service")
        token = new_token()
        simulator = create_app(SimulatorConfig(token=token))
        async with running(simulator, "127.0.0.1", port) as page, SimulatorClient(page) as people:
            settings = demo_settings(state, page, token, host, pool)
            await _prepare(settings)
            service = Service(settings)
            await service.startup()
            mirror = asyncio.create_task(mirror_timeline(service.database, people), name="timeline")
            try:
                lock.announce(page)
                yield Demo(page, people, service)
            finally:
                mirror.cancel()
                await asyncio.gather(mirror, return_exceptions=True)
                tell("stopping the demo's instances")
                await service.shutdown()
                await _rest(settings)


async def wish_for_rest(database: Database, telegram_id: int | None = None) -> None:
    """Wish that this person's instance, by default everybody's, is stopped until they write again."""
    change = update(Wish).where(Wish.wanted == Wanted.AWAKE)
    if telegram_id is not None:
        change = change.where(Wish.user_id.in_(select(User.id).where(User.telegram_id == telegram_id)))
    async with database.write() as session:
        await session.execute(change.values(wanted=Wanted.STOPPED, generation=Wish.generation + 1, asked_at=now()))


async def forget_the_last_demo(database: Database) -> None:
    """Its people are gone: nobody waits for their instances, nor for what they wrote and was not delivered."""
    await wish_for_rest(database)
    unread = update(InboxUpdate).where(InboxUpdate.status == InboxStatus.PENDING)
    async with database.write() as session:
        await session.execute(unread.values(status=InboxStatus.EXPIRED, settled_at=now(), body=b""))


async def _prepare(settings: Settings) -> None:
    database = Database(settings.effective_database_url)
    try:
        await database.migrate()
        await forget_the_last_demo(database)
    finally:
        await database.close()


async def _rest(settings: Settings) -> None:
    database = Database(settings.effective_database_url)
    try:
        await wish_for_rest(database)
        async with provisioning(settings, database) as provisioner:
            await provisioner.stop_all()
    finally:
        await database.close()
