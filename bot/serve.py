"""One process of Zaki: front, provisioner or both in one event loop; startup, main loop, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import socket
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

import httpx
import structlog
import uvicorn

from bot.credentials import FrontKey, load_key
from bot.disk import require_writable
from bot.hostfacts import HostFacts, host_file
from bot.listeners import listen, passed_sockets, url_of
from bot.nudge import Nudge
from bot.settings import Settings, SettingsError, split_listen
from bot.store import Database

if TYPE_CHECKING:
    from bot.front.app import Front
    from bot.provisioner.app import Provisioner

#: Seconds that Telegram gets to say who the bot is, before the service starts without knowing.
_TELEGRAM_WITHIN = 5.0

log = structlog.get_logger()


class Role(StrEnum):
    """A part that runs as a process of its own."""

    FRONT = "front"
    PROVISIONER = "provisioner"


class Service:
    """The parts of one process, and the sockets that they listen on.

    `role` None runs both parts, which then nudge each other in memory; else over sockets below `STATE/run`.
    """

    def __init__(self, settings: Settings, role: Role | None = None) -> None:
        self.settings = settings
        self.role = role
        self.host = HostFacts.read(host_file(settings))
        self.database: Database
        self.front: Front | None = None
        self.provisioner: Provisioner | None = None
        self.public_url = ""
        self.bridge_url = ""
        #: The bot's username; None: Telegram did not tell it yet.
        self.bot: str | None = None
        self.nudge = self._make_nudge()
        self._servers: list[_Server] = []
        self._serving: list[asyncio.Task[None]] = []
        self._cleanup = contextlib.AsyncExitStack()

    async def startup(self) -> None:
        """Bind the sockets, bring the database to its newest schema, start the parts; all or nothing."""
        try:
            await self._start()
        except BaseException:
            await self.shutdown()
            raise

    async def main_loop(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set, or raise what ended one of the servers."""
        waiting = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([waiting, *self._serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for serving in self._serving:
            if serving.done():
                serving.result()

    async def shutdown(self) -> None:
        """Answer what was asked, then stop the parts in the reverse order; instances keep running."""
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._cleanup.aclose()

    def describe(self) -> str:
        """What runs where, and which link to open."""
        parts = []
        if self.role is not Role.PROVISIONER:
            settings = self.settings
            way = f"the webhook {settings.public_url}/telegram/webhook" if settings.public_url else "long polling"
            parts.append(
                f"takes messages by {way}, listens on {self.public_url} and for instances on {self.bridge_url}"
            )
        if self.role is not Role.FRONT:
            parts.append(f"keeps instances on {self.host.bridge} ({self.host.subnet})")
        who = "Zaki" if self.role is None else f"Zaki's {self.role}"
        sentence = f"{who} {', '.join(parts)}; its state is in {self.settings.state}."
        if self.role is Role.PROVISIONER:
            return sentence
        if self.bot is None:
            return f"{sentence} Telegram does not answer yet; messages come as soon as it does."
        page = self.settings.telegram_api if self.settings.simulated else f"https://t.me/{self.bot}"
        return f"{sentence} Open {page} to write to it."

    async def _start(self) -> None:
        settings = self.settings
        require_writable(settings)
        sockets = self._bind() if self.role is not Role.PROVISIONER else None
        self.database = Database(settings.effective_database_url)
        self._cleanup.push_async_callback(self.database.close)
        if sockets is not None:
            self.front = await self._make_front()
        (settings.state / "run").mkdir(mode=0o770, parents=True, exist_ok=True)
        await self.database.migrate()
        self.nudge.open()
        self._cleanup.callback(self.nudge.close)
        if self.role is not Role.FRONT:
            await self._start_provisioner()
        if self.front is not None and sockets is not None:
            await self._start_front(self.front, *sockets)

    def _bind(self) -> tuple[socket.socket, socket.socket]:
        passed = passed_sockets()
        host, port = split_listen(self.settings.listen)
        public = passed.get("public") or listen(host, port, "ZAKI_LISTEN")
        self._cleanup.callback(public.close)
        host, port = split_listen(self.settings.effective_instances_listen(self.host.gateway))
        # The bridge comes up with Docker, perhaps after this service.
        bridge = passed.get("bridge") or listen(host, port, "ZAKI_INSTANCES_LISTEN", free=True)
        self._cleanup.callback(bridge.close)
        self.public_url, self.bridge_url = url_of(public), url_of(bridge)
        return public, bridge

    async def _start_provisioner(self) -> None:
        from bot.provisioner.app import Provisioner
        from bot.toolchain import Toolchain

        self.provisioner = Provisioner(self.settings, self.database, self.nudge, self.host, Toolchain.from_pins())
        await self.provisioner.start()
        self._cleanup.push_async_callback(self.provisioner.stop)

    async def _make_front(self) -> Front:
        from bot.front.app import Front
        from bot.front.context import FrontContext

        settings = self.settings
        # Connections are bounded by the instances that are awake, not by a number of our own.
        http = await self._cleanup.enter_async_context(
            httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None))
        )
        key = FrontKey(load_key(settings.state / "keys" / "front.key", shared=True))
        front = Front(FrontContext(settings, self.database, self.nudge, self.host, key, http))
        self.bot = await _bot_name(front)
        return front

    async def _start_front(self, front: Front, public: socket.socket, bridge: socket.socket) -> None:
        from bot.front.app import bridge_app, public_app, uvicorn_config

        await front.start()
        self._cleanup.push_async_callback(front.stop)
        for config, listener in (
            (uvicorn_config(public_app(front)), public),
            (uvicorn_config(bridge_app(front), bridge=True), bridge),
        ):
            server = _Server(config)
            self._servers.append(server)
            self._serving.append(asyncio.create_task(server.serve([listener])))

    def _make_nudge(self) -> Nudge:
        if self.role is None:
            return Nudge()
        other = Role.PROVISIONER if self.role is Role.FRONT else Role.FRONT
        run = self.settings.state / "run"
        return Nudge(run / f"{self.role}.sock", run / f"{other}.sock")


async def serve(settings: Settings, role: Role | None = None) -> None:
    """Run until SIGINT or SIGTERM."""
    raise_file_limit()
    service = Service(settings, role)
    with stop_signals() as stop:
        await service.startup()
        try:
            log.info(service.describe())
            await service.main_loop(stop)
        finally:
            await service.shutdown()
    log.info("Zaki stopped; instances keep running.")


def raise_file_limit() -> None:
    """Let this process have as many open files and connections as the system gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stopped() -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _bot_name(front: Front) -> str | None:
    """The bot's username, None where Telegram is away; raises :class:`SettingsError` where it refuses the token."""
    from bot.front.telegram import TelegramUnavailable

    try:
        answer = await front.api.raw("getMe", {}, timeout=_TELEGRAM_WITHIN)
    except TelegramUnavailable:
        return None
    if answer.status in (401, 404):
        raise SettingsError("Telegram refuses ZAKI_TELEGRAM_TOKEN; set it to your bot's token from @BotFather.")
    try:
        return str(json.loads(answer.body)["result"]["username"])
    except (ValueError, KeyError, TypeError):
        return None


class _Server(uvicorn.Server):
    """One of several servers in a loop: signals are the service's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
