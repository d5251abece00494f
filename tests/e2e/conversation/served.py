"""Zaki as an operator runs it: `zaki serve` as a process of its own, with what the tests ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from sqlalchemy import select

from bot.hostfacts import HostFacts
from bot.settings import load_settings
from bot.standins.telegram import SimulatorClient
from bot.store import Database
from bot.store.tables import Instance, TimelineEntry, User
from bot.timeline import Stage

PROGRAM = Path(sys.executable).parent / "zaki"
TOKEN = "123456789:AAreal-token-that-no-instance-may-see0"
#: Seconds; a gateway starts in ten on a quiet machine.
PATIENCE = 180.0

_T = TypeVar("_T")


async def until(look: Callable[[], Awaitable[_T | None]], what: str, patience: float = PATIENCE) -> _T:
    """Look until there is something to see; fails with `what` was waited for."""
    try:
        async with asyncio.timeout(patience):
            while not (found := await look()):
                await asyncio.sleep(0.05)
            return found
    except TimeoutError:
        pytest.fail(f"{what} did not happen within {patience:.0f} seconds", pytrace=False)


class ServedZaki:
    """A running service and the simulator that it speaks to; `roles` empty: both parts in one process."""

    def __init__(
        self,
        state: Path,
        people: SimulatorClient,
        api: str,
        log: Path,
        host: HostFacts,
        roles: tuple[str, ...],
        database_url: str | None,
        webhook: bool,
        pool: int = 0,
    ) -> None:
        """`pool`: how many instances are kept ready for people who are new."""
        self.state = state
        self.people = people
        self.log = log
        self.host = host
        listen = f"127.0.0.1:{free_port()}"
        self.settings = load_settings(
            _env_file=None,
            state=state,
            telegram_token=TOKEN,
            telegram_api=api,
            listen=listen,
            public_url=f"http://{listen}" if webhook else None,
            database_url=database_url,
            pool=pool,
        )
        self.database = Database(self.settings.effective_database_url)
        self._roles = roles or ("",)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")} | {
            "ZAKI_STATE": str(state),
            "ZAKI_TELEGRAM_TOKEN": TOKEN,
            "ZAKI_TELEGRAM_API": api,
            "ZAKI_LISTEN": self.settings.listen,
            "ZAKI_DATABASE_URL": self.settings.effective_database_url,
            "ZAKI_POOL": str(pool),
        }
        if self.settings.public_url is not None:
            self._environment["ZAKI_PUBLIC_URL"] = self.settings.public_url
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, **environment: str) -> None:
        """Start what does not run, with further variables, and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            for role in self._roles:
                if role in self._processes:
                    continue
                command = [str(PROGRAM), "serve", *(["--role", role] if role else [])]
                self._processes[role] = subprocess.Popen(
                    command,
                    env=self._environment | environment,
                    cwd=self.state,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

        async def ready() -> bool:
            assert not any(process.poll() for process in self._processes.values()), self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                async with httpx.AsyncClient(trust_env=False) as http:
                    return (await http.get(f"http://{self.settings.listen}/readyz")).status_code == 200
            return False

        await until(ready, "the service's readiness", 60)

    def kill(self, role: str | None = None) -> None:
        """`kill -9` of one process, or of all: nothing is said, nothing is saved."""
        self._end(signal.SIGKILL, [role] if role else list(self._processes))

    def stop(self) -> None:
        """End it as systemd would."""
        self._end(signal.SIGTERM, list(self._processes))

    def command(self, *arguments: str, ok: bool = True) -> str:
        """What a `zaki` command prints."""
        done = self._run(*arguments)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code of a `zaki` command, and all that it prints."""
        done = self._run(*arguments)
        return done.returncode, done.stdout + done.stderr

    def tries(self, *arguments: str) -> bool:
        """Whether a `zaki` command does what it is asked to."""
        return self.run(*arguments)[0] == 0

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """A `zaki` command that goes on."""
        return subprocess.Popen(
            [PROGRAM, *arguments], env=self._environment, cwd=self.state, stdout=subprocess.PIPE, text=True
        )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments], env=self._environment, cwd=self.state, capture_output=True, text=True, check=False
        )

    async def instance_of(self, telegram_id: int) -> Instance | None:
        """The person's instance, as the provisioner wrote it down."""
        query = select(Instance).join(User, User.id == Instance.user_id).where(User.telegram_id == telegram_id)
        async with self.database.read() as session:
            return (await session.scalars(query)).one_or_none()

    async def stages(self, telegram_id: int) -> list[Stage]:
        """What happened for a person."""
        query = select(TimelineEntry.stage).where(TimelineEntry.telegram_id == telegram_id).order_by(TimelineEntry.id)
        async with self.database.read() as session:
            return [Stage(stage) for stage in await session.scalars(query)]

    async def reached(self, telegram_id: int, stage: Stage) -> None:
        """Return once the stage was noted."""

        async def look() -> bool:
            return stage in await self.stages(telegram_id)

        await until(look, f"the stage {stage}")

    def _end(self, number: signal.Signals, roles: list[str]) -> None:
        ending = [self._processes.pop(role) for role in roles]
        for process in ending:
            if process.poll() is None:
                process.send_signal(number)
        for process in ending:
            process.wait(60)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
