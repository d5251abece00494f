"""A simulator on a loopback socket, python-telegram-bot as it is, and a place to receive webhooks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import (
    Application,
    CallbackQueryHandler,
    CommandHandler,
    ContextTypes,
    MessageHandler,
    filters,
)

from bot.standins.telegram import ManualClock, Simulator, SimulatorClient, SimulatorConfig, create_app, running

TOKEN = "1234567890:AAtestTOKENtestTOKENtestTOKENtest"


@dataclass
class Running:
    """A simulator that serves."""

    url: str
    client: SimulatorClient
    simulator: Simulator

    def bot(self, token: str = TOKEN) -> Bot:
        return Bot(token, base_url=f"{self.url}/bot", base_file_url=f"{self.url}/file/bot")


@contextlib.asynccontextmanager
async def _serving(config: SimulatorConfig, clock: ManualClock | None = None) -> AsyncIterator[Running]:
    app = create_app(config, clock)
    async with running(app) as url, SimulatorClient(url) as client:
        yield Running(url, client, app.state.simulator)


@pytest.fixture(autouse=True)
def _times_as_timedelta(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-telegram-bot warns about its older type for spans of time."""
    monkeypatch.setenv("PTB_TIMEDELTA", "1")


@pytest.fixture
async def sim() -> AsyncIterator[Running]:
    async with _serving(SimulatorConfig(TOKEN)) as started:
        yield started


@pytest.fixture
async def limited_sim() -> AsyncIterator[Running]:
    """One that applies Telegram's own limits."""
    async with _serving(SimulatorConfig(TOKEN, enforce_limits=True), ManualClock()) as started:
        yield started


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed_sim(clock: ManualClock) -> AsyncIterator[Running]:
    """One whose time stands still until `clock` is advanced."""
    async with _serving(SimulatorConfig(TOKEN), clock) as started:
        yield started


@pytest.fixture
async def bot(sim: Running) -> AsyncIterator[Bot]:
    async with sim.bot() as started:
        yield started


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds; fails after a generous deadline."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


async def _start(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    assert update.message is not None
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Press me", callback_data="pressed")]])
    await update.message.reply_text("Hello", reply_markup=keyboard)


async def _shout(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    if update.message is None or update.message.text is None:
        return
    await update.message.reply_chat_action("typing")
    answer = await update.message.reply_text("…")
    await answer.edit_text(f"<b>{update.message.text.upper()}</b>", parse_mode="HTML")


async def _pressed(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    assert update.callback_query is not None
    await update.callback_query.answer("Well done")
    await update.callback_query.edit_message_text("You pressed it")


@pytest.fixture
async def echo_bot(sim: Running) -> AsyncIterator[Application[Any, Any, Any, Any, Any, Any]]:
    """A bot that polls: /start shows a button, other text comes back in capitals as an edit."""
    application = (
        Application.builder().token(TOKEN).base_url(f"{sim.url}/bot").base_file_url(f"{sim.url}/file/bot").build()
    )
    application.add_handler(CommandHandler("start", _start))
    application.add_handler(MessageHandler(filters.TEXT, _shout))
    application.add_handler(CallbackQueryHandler(_pressed))
    async with application:
        assert application.updater is not None
        await application.bot.set_my_commands([("start", "Begin"), ("help", "What I can do")])
        await application.start()
        await application.updater.start_polling()
        yield application
        await application.updater.stop()
        await application.stop()


@dataclass
class Receiver:
    """A webhook; `answers` are given in turn, then 200s."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    secrets: list[str | None] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    #: While it is cleared, requests wait for their answer.
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: Request) -> Response:
        self.received.append(await request.json())
        self.secrets.append(request.headers.get("x-telegram-bot-api-secret-token"))
        await self.gate.wait()
        return self.answers.pop(0) if self.answers else JSONResponse({})


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    started = Receiver()
    started.gate.set()
    app = Starlette(routes=[Route("/hook", started.handle, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _QuietServer(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        started.url = f"http://127.0.0.1:{listener.getsockname()[1]}/hook"
        yield started
        started.gate.set()
        server.should_exit = True
        await task
