"""A router with an inbox before it and gateways behind it, and a stand-in for the provisioner."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.credentials import new_instance_id
from bot.front.context import FrontContext
from bot.front.delivery import Delivery
from bot.front.inbox import Inbox
from bot.front.outbox import Outbox
from bot.front.router import Router
from bot.front.telegram import TelegramApi
from bot.front.updates import read_update
from bot.nudge import Topic
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import (
    ContainerState,
    InboxUpdate,
    Instance,
    OutboxMessage,
    TimelineEntry,
    User,
    Wish,
)
from bot.users import receipts
from tests.updates import press

DURABLE = Response(status_code=200, headers={"x-openclaw-delivery-accepted": "durable"})


async def eventually(check: Callable[[], Awaitable[Any]], within: float = 15.0) -> Any:
    """What the check gives once it is true; fails after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (found := await check()):
        assert asyncio.get_running_loop().time() < deadline, f"never became true: {check}"
        await asyncio.sleep(0.02)
    return found


@dataclass
class Gateways:
    """Instances' webhooks on one port of many loopback addresses; they answer `durable` unless told otherwise."""

    port: int = 0
    #: What came in, by address, in order.
    bodies: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    secrets: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    #: The next answers by address; then `durable`.
    answers: dict[str, list[Response]] = field(default_factory=lambda: defaultdict(list))
    #: Cleared: whoever posts waits until it is set.
    open: asyncio.Event = field(default_factory=asyncio.Event)
    most_at_once: int = 0
    _now: int = 0

    async def take(self, request: Request) -> Response:
        """Note the update and answer as told."""
        address = request.scope["server"][0]
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await self.open.wait()
            self.bodies[address].append(await request.body())
            self.secrets[address].append(request.headers["X-Telegram-Bot-Api-Secret-Token"])
            return self.answers[address].pop(0) if self.answers[address] else DURABLE
        finally:
            self._now -= 1

    def update_ids(self, address: str) -> list[int]:
        """The ids of what came in."""
        return [json.loads(body)["update_id"] for body in self.bodies[address]]


@pytest.fixture
async def gateways() -> AsyncIterator[Gateways]:
    """Gateways on every loopback address."""
    gateways = Gateways()
    gateways.open.set()
    app = Starlette(routes=[Route("/telegram-webhook", gateways.take, methods=["POST"])])
    async with running(app, "0.0.0.0") as url:
        gateways.port = int(url.rpartition(":")[2])
        yield gateways
        gateways.open.set()


@dataclass
class Side:
    """What a test sees of a front, and what it does in the place of people and provisioner."""

    context: FrontContext
    inbox: Inbox
    router: Router

    async def send(self, *bodies: bytes) -> int:
        """As the webhook does it; how many were new."""
        return await self.inbox.store([read_update(body) for body in bodies])

    async def handle(self, *bodies: bytes) -> None:
        """Send what is for Zaki itself, one after the other, and wait until it is handled."""

        async def done() -> bool:
            return all(row.status != "pending" for row in await self.rows() if row.recipient == "zaki")

        for body in bodies:
            await self.send(body)
        await eventually(done)

    async def press(self, update_id: int, label: str, telegram_id: int) -> None:
        """Press the button that the person sees with this label."""
        data = (await self.buttons(telegram_id))[label]
        await self.handle(press(update_id, telegram_id, data))

    async def bring_up(self, telegram_id: int, address: str = "127.0.0.1", **changes: Any) -> Instance:
        """The provisioner's work: an instance that can take updates, with other columns where they are given."""
        async with self.context.database.write() as session:
            user = (await session.scalars(select(User).where(User.telegram_id == telegram_id))).one()
            wish = await session.get_one(Wish, user.id)
            instance = (await session.scalars(select(Instance).where(Instance.user_id == user.id))).one_or_none()
            if instance is None:
                instance = Instance(
                    id=new_instance_id(), user_id=user.id, plan="standard", image="sha256:0", created_at=now()
                )
                session.add(instance)
            columns = {"container": ContainerState.RUNNING, "ready_at": now(), "met_generation": wish.generation}
            for name, value in {"address": address, **columns, **changes}.items():
                setattr(instance, name, value)
        self.context.nudge.ring(Topic.INSTANCES)
        return instance

    async def remove(self, telegram_id: int, *removed: str) -> None:
        """The provisioner's work: the instance is gone, and these are the lines of the receipt."""
        async with self.context.database.write() as session:
            user = (await session.scalars(select(User).where(User.telegram_id == telegram_id))).one()
            instance = (await session.scalars(select(Instance).where(Instance.user_id == user.id))).one()
            await session.delete(instance)
            await receipts.add(session, telegram_id, removed)
        self.context.nudge.ring(Topic.INSTANCES)

    async def rows(self) -> list[InboxUpdate]:
        """The inbox, in order."""
        async with self.context.database.read() as session:
            return list(await session.scalars(select(InboxUpdate).order_by(InboxUpdate.update_id)))

    async def status(self, update_id: int) -> str:
        """What became of an update."""
        return next(str(row.status) for row in await self.rows() if row.update_id == update_id)

    async def until(self, update_id: int, status: str) -> None:
        """Wait until that became of it."""

        async def reached() -> bool:
            return await self.status(update_id) == status

        await eventually(reached)

    async def user(self, telegram_id: int) -> User | None:
        """The person's row."""
        async with self.context.database.read() as session:
            return (await session.scalars(select(User).where(User.telegram_id == telegram_id))).one_or_none()

    async def wish(self, telegram_id: int) -> Wish | None:
        """What is wished for the person."""
        query = select(Wish).join(User, User.id == Wish.user_id).where(User.telegram_id == telegram_id)
        async with self.context.database.read() as session:
            return (await session.scalars(query)).one_or_none()

    async def calls(self, telegram_id: int) -> list[OutboxMessage]:
        """What goes out to the chat, in order."""
        query = select(OutboxMessage).where(OutboxMessage.chat_id == telegram_id).order_by(OutboxMessage.id)
        async with self.context.database.read() as session:
            return list(await session.scalars(query))

    async def said(self, telegram_id: int) -> list[str]:
        """The texts of that."""
        return [call.params["text"] for call in await self.calls(telegram_id) if "text" in call.params]

    async def buttons(self, telegram_id: int) -> dict[str, str]:
        """The buttons that the person sees, with their data."""
        found = {}
        for call in await self.calls(telegram_id):
            for row in call.params.get("reply_markup", {}).get("inline_keyboard", []):
                found.update({button["text"]: button["callback_data"] for button in row})
        return found

    async def stages(self, telegram_id: int) -> list[str]:
        """The person's timeline."""
        query = select(TimelineEntry.stage).where(TimelineEntry.telegram_id == telegram_id).order_by(TimelineEntry.id)
        async with self.context.database.read() as session:
            return list(await session.scalars(query))


@asynccontextmanager
async def running_side(context: FrontContext, port: int, **options: Any) -> AsyncIterator[Side]:
    """Inbox and router, stopped at the end as `kill` would: whatever is under way is cut off."""
    outbox = Outbox(context, TelegramApi(context))
    router = Router(context, outbox, delivery=Delivery(context.key, port), grace=0.0, **options)
    side = Side(context, Inbox(context, router.wake), router)
    task = asyncio.create_task(router.run())
    try:
        yield side
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await router.close()


@pytest.fixture
async def side(context: FrontContext, gateways: Gateways, database: Database) -> AsyncIterator[Side]:
    """A front without Telegram: what it says stays in the outbox for the test to read."""
    async with running_side(context, gateways.port) as side:
        yield side
