"""A simulated person, the whole front and a stand-in gateway: what goes in as Telegram sends it comes out answered."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import select, update

from bot.front.app import Front, bridge_app
from bot.front.context import FrontContext
from bot.nudge import Topic
from bot.provisioner.openclaw import GatewayConfig, Owner, render_config
from bot.settings import Settings
from bot.standins.instance import InstanceConfig, StandInInstance
from bot.standins.serving import running
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app
from bot.standins.telegram import running as simulating
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, TimelineEntry, Usage, UsageDay, User, Wish
from tests.integration.front.conftest import eventually

TOKEN = "1234567890:AAtests-only-not-a-real-token-000000"
INSTANCE = "u-conversed1"
#: Far from the addresses that other tests take, and different in each process.
ADDRESS = str(IPv4Address("127.2.0.0") + os.getpid() % 60_000)


@dataclass
class Zaki:
    """A front that runs, and the bridge's URL."""

    front: Front
    bridge: str
    people: SimulatorClient

    @asynccontextmanager
    async def instance_of(self, telegram_id: int) -> AsyncIterator[StandInInstance]:
        """The provisioner's work: an instance for the person, ready while the block runs."""
        context = self.front.context
        owner = Owner(telegram_id, call_name=None, timezone=None)
        config = GatewayConfig(owner, context.key.derive(INSTANCE, 1), "gateway-token", self.bridge)
        async with context.database.write() as session:
            user = (await session.scalars(select(User).where(User.telegram_id == telegram_id))).one()
            instance = Instance(id=INSTANCE, user_id=user.id, plan="standard", image="sha256:0", created_at=now())
            instance.address = ADDRESS
            session.add(instance)
        async with StandInInstance(InstanceConfig.parse(render_config(config)), ADDRESS).running() as standin:
            async with context.database.write() as session:
                wish = await session.get_one(Wish, user.id)
                ready: dict[str, Any] = {"container": ContainerState.RUNNING, "ready_at": now()}
                ready["met_generation"] = wish.generation
                await session.execute(update(Instance).where(Instance.id == INSTANCE).values(ready))
            context.nudge.ring(Topic.INSTANCES)
            yield standin


@pytest.fixture
async def zaki(
    make_settings: Callable[..., Settings], make_context: Callable[[Settings], FrontContext]
) -> AsyncIterator[Zaki]:
    app = create_app(SimulatorConfig(TOKEN))
    async with simulating(app) as telegram, SimulatorClient(telegram) as people:
        front = Front(make_context(make_settings(telegram_api=telegram, telegram_token=TOKEN)))
        async with running(bridge_app(front)) as bridge:
            await front.start()
            yield Zaki(front, bridge, people)
            await front.stop()


async def test_a_conversation(zaki: Zaki, database: Database) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    first = await zaki.people.say(ada, "hello")

    async def wished() -> bool:
        async with database.read() as session:
            return (await session.scalars(select(Wish))).one_or_none() is not None

    await eventually(wished)
    async with zaki.instance_of(ada.id):
        reply = await zaki.people.wait_for_reply(
            ada, after=first.id, timeout=20, predicate=lambda message: "You wrote" in message.text
        )
        assert reply.text == "You wrote: hello"
        second = await zaki.people.say(ada, "what did I say")
        reply = await zaki.people.wait_for_reply(ada, after=second.id, timeout=20)
        assert reply.text == "Before this you wrote: hello"

        async def accounted() -> bool:
            async with database.read() as session:
                calls = (await session.scalars(select(Usage))).all()
            return len(calls) == 2 and all(call.http_status == 200 and not call.estimated for call in calls)

        await eventually(accounted)
    async with database.read() as session:
        day = (await session.scalars(select(UsageDay))).one()
        stages = (await session.scalars(select(TimelineEntry.stage).order_by(TimelineEntry.id))).all()
    assert (day.instance_id, day.requests) == (INSTANCE, 2)
    assert day.tokens > 0
    assert {"received", "delivered", "replied"} <= set(stages)
