"""A simulated Telegram, a multiplexer on a loopback socket, and python-telegram-bot in the place of instances."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from telegram import Bot
from telegram.request import HTTPXRequest

from bot.front.botapi import router
from bot.front.context import FrontContext
from bot.front.outbox import Backoff, Limits, Outbox, OutboxPolicy, Rate
from bot.front.telegram import TelegramApi
from bot.settings import Settings
from bot.standins.serving import running
from bot.standins.telegram import Simulator, SimulatorClient, SimulatorConfig, create_app
from bot.standins.telegram import running as running_simulator
from bot.standins.telegram.client import SimulatedMessage, SimulatedPerson
from bot.store import now
from bot.store.tables import Instance, OutboxMessage, User, UserStatus

REAL_TOKEN = "1234567890:AArealTOKENrealTOKENrealTOKENreal"
#: Telegram's limits, but so wide that no test waits for them.
FAST = OutboxPolicy(
    limits=Limits(overall=Rate(1000, 1.0), chat=Rate(1000, 1.0)), backoff=Backoff(first=0.02, longest=0.1), grace=2.0
)


@dataclass
class Assistant:
    """An instance as the multiplexer knows it, with python-telegram-bot's `Bot` where OpenClaw would be."""

    id: str
    owner: SimulatedPerson
    address: str
    token: str
    url: str

    def bot(self, *, token: str | None = None, address: str | None = None) -> Bot:
        """A client that calls from the instance's address unless told otherwise."""
        return Bot(
            token or self.token,
            base_url=f"{self.url}/telegram/bot",
            base_file_url=f"{self.url}/telegram/file/bot",
            request=_from(address or self.address),
            get_updates_request=_from(address or self.address),
        )

    def http(self, *, address: str | None = None) -> httpx.AsyncClient:
        """A plain client, below the methods of this instance."""
        return httpx.AsyncClient(
            base_url=f"{self.url}/telegram/bot{self.token}",
            transport=httpx.AsyncHTTPTransport(local_address=address or self.address),
            timeout=30,
        )


def _from(address: str) -> HTTPXRequest:
    kwargs: dict[str, Any] = {"transport": httpx.AsyncHTTPTransport(local_address=address), "trust_env": False}
    return HTTPXRequest(connection_pool_size=64, read_timeout=30, httpx_kwargs=kwargs)


@dataclass
class World:
    """Everything at once."""

    context: FrontContext
    simulator: Simulator
    telegram: SimulatorClient
    api: TelegramApi
    url: str
    outbox: Outbox
    _running: asyncio.Task[None] | None = None
    _assistants: list[Assistant] = field(default_factory=list)

    async def assistant(self) -> Assistant:
        """A new person who wrote to the bot, with an instance of their own."""
        number = len(self._assistants) + 1
        owner = await self.telegram.new_user(first_name=f"Owner{number}")
        await self.telegram.say(owner, "hello")
        instance_id = f"u-owner{number:05d}"
        address = f"127.0.0.{10 + number}"
        async with self.context.database.write() as session:
            user = User(telegram_id=owner.id, first_name=owner.first_name, status=UserStatus.ACTIVE, created_at=now())
            session.add(user)
            await session.flush()
            session.add(
                Instance(id=instance_id, user_id=user.id, plan="standard", address=address, image="x", created_at=now())
            )
        token = self.context.key.derive(instance_id, 1).bot_token
        assistant = Assistant(instance_id, owner, address, token, self.url)
        self._assistants.append(assistant)
        return assistant

    def start(self) -> None:
        """Begin to send."""
        self._running = asyncio.create_task(self.outbox.run())

    async def stop(self) -> None:
        """End sending in an orderly way."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    async def rows(self) -> list[OutboxMessage]:
        """The outbox, oldest first."""
        async with self.context.database.read() as session:
            return list((await session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))).all())

    async def said(self, assistant: Assistant) -> list[SimulatedMessage]:
        """What the person has from the bot."""
        return [message for message in await self.telegram.messages(assistant.owner) if message.from_bot]


MakeWorld = Callable[..., contextlib.AbstractAsyncContextManager[World]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def make_world(make_settings: Callable[..., Settings], make_context: Callable[[Settings], FrontContext]) -> MakeWorld:
    """A world with an outbox policy of the test's own, and Telegram's limits where they are wanted."""

    @contextlib.asynccontextmanager
    async def make(policy: OutboxPolicy = FAST, *, enforce_limits: bool = False) -> AsyncIterator[World]:
        app = create_app(SimulatorConfig(REAL_TOKEN, enforce_limits=enforce_limits))
        async with running_simulator(app) as telegram_url, SimulatorClient(telegram_url) as telegram:
            context = make_context(make_settings(telegram_token=REAL_TOKEN, telegram_api=telegram_url))
            api = TelegramApi(context)
            outbox = Outbox(context, api, policy)
            bridge = FastAPI()
            bridge.include_router(router(context, outbox, api))
            async with running(bridge) as url:
                world = World(context, app.state.simulator, telegram, api, url, outbox)
                world.start()
                try:
                    yield world
                finally:
                    await world.stop()

    return make


@pytest.fixture
async def world(make_world: MakeWorld) -> AsyncIterator[World]:
    """A world in which nothing has to be waited for."""
    async with make_world() as made:
        yield made


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds; fails after a generous deadline."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while not await condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture(autouse=True)
def _times_as_timedelta(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-telegram-bot warns about its older type for spans of time."""
    monkeypatch.setenv("PTB_TIMEDELTA", "1")
