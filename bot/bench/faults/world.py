"""A service of the campaign's own on a bridge of its own, with a simulated Telegram that is never killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bot.bench.roles import Roles
from bot.demo.host import ensure_host, remove_host
from bot.demo.settings import free_port, new_token
from bot.hostfacts import HostFacts
from bot.provisioner.single import provisioning
from bot.serve import Role
from bot.settings import Settings, load_settings, split_listen
from bot.standins.telegram import SimulatorClient
from bot.store import Database

#: Seconds for the simulator to answer, and for both processes to say that they are ready.
_ANSWERS_WITHIN = 30.0
_READY_WITHIN = 120.0


class WorldFailed(Exception):
    """The service or the simulator did not start; the message says what to read."""


@dataclass(frozen=True)
class World:
    """What is there while a campaign runs."""

    settings: Settings
    host: HostFacts
    roles: Roles
    people: SimulatorClient
    database: Database

    async def until_ready(self, role: Role, since: float) -> None:
        """Return once a process that was started after `since` (Unix time) takes the role; WorldFailed: none does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READY_WITHIN
        nudge = self.settings.state / "run" / f"{role}.sock"
        async with httpx.AsyncClient(trust_env=False, timeout=_READY_WITHIN) as http:
            while not (nudge.exists() and nudge.stat().st_mtime > since - 0.1 and await self._answers(role, http)):
                if self.roles.crashes or loop.time() > deadline:
                    why = ", ".join(self.roles.crashes) or "it takes too long"
                    raise WorldFailed(f"The {role} did not become ready ({why}); read its log.")
                await asyncio.sleep(0.1)

    async def _answers(self, role: Role, http: httpx.AsyncClient) -> bool:
        if role is Role.PROVISIONER:
            return True
        try:
            return (await http.get(f"http://{self.settings.listen}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class Wants:
    """What the campaign wants of the service."""

    #: Image of the instances; None: the one that the host declares.
    image: str | None
    #: Seconds without a message after which an instance falls asleep.
    idle: float
    #: Members of the warm pool.
    pool: int
    #: Called by webhook; else it polls.
    webhook: bool


@asynccontextmanager
async def world(wants: Wants, log: Path, tell: Callable[[str], None]) -> AsyncIterator[World]:
    """A running service during the block; all that it made is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="zaki-faults-"))
    state = folder / "state"
    try:
        tell("declaring a network")
        host = await ensure_host(state)
        token = new_token()
        async with _simulator(token, folder) as api, SimulatorClient(api) as people:
            listen = f"127.0.0.1:{free_port('127.0.0.1', 0)}"
            settings = load_settings(
                _env_file=None,
                state=state,
                telegram_token=token,
                telegram_api=api,
                listen=listen,
                instances_listen=f"{host.gateway}:{free_port(str(host.gateway), 0)}",
                public_url=f"http://{listen}" if wants.webhook else None,
                database_url=None,
                image=wants.image,
                idle_seconds=wants.idle,
                pool=wants.pool,
            )
            database = Database(settings.effective_database_url)
            roles = Roles(_environment(settings, wants, token), folder, log)
            try:
                tell("starting the service")
                await database.migrate()
                bridge = settings.effective_instances_listen(host.gateway)
                roles.bind(split_listen(settings.listen), split_listen(bridge))
                made = World(settings, host, roles, people, database)
                await roles.start()
                for role in Role:
                    await made.until_ready(role, 0.0)
                yield made
            finally:
                tell("removing what the campaign made")
                await roles.stop()
                async with provisioning(settings, database) as provisioner:
                    await provisioner.remove_all()
                await database.close()
    finally:
        if (state / "host.json").exists():
            await remove_host(state)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(settings: Settings, wants: Wants, token: str) -> dict[str, str]:
    given = {
        "STATE": str(settings.state),
        "TELEGRAM_TOKEN": token,
        "TELEGRAM_API": settings.telegram_api,
        "LISTEN": settings.listen,
        "INSTANCES_LISTEN": settings.instances_listen,
        "PUBLIC_URL": settings.public_url,
        "DATABASE_URL": settings.effective_database_url,
        "IMAGE": wants.image,
        "IDLE_SECONDS": str(wants.idle),
        "POOL": str(wants.pool),
    }
    return {f"ZAKI_{name}": value for name, value in given.items() if value is not None}


@asynccontextmanager
async def _simulator(token: str, folder: Path) -> AsyncIterator[str]:
    """The simulated Telegram as a process; the Bot API's root."""
    port = free_port("127.0.0.1", 0)
    api = f"http://127.0.0.1:{port}"
    with (folder / "simulator.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot.standins.telegram", "--port", str(port), "--token", token),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        await _until_it_answers(process, api)
        yield api
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_it_answers(process: asyncio.subprocess.Process, api: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ANSWERS_WITHIN
    async with httpx.AsyncClient(trust_env=False) as http:
        while process.returncode is None and loop.time() < deadline:
            try:
                await http.get(f"{api}/sim/users")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return
    raise WorldFailed("The simulated Telegram did not start.")
