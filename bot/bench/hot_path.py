"""The way of a message to an instance that is awake: acknowledged, committed, delivered; and an idle service's memory.

The service is a process of its own (`zaki serve --role front`), as in production. The sender and the instances, a sink
that answers as OpenClaw's webhook does, are this process, so that one clock measures both ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from bot.bench.figures import Figure, Report
from bot.bench.load import Load, Sent
from bot.bench.postgres import NoPostgres, postgresql
from bot.bench.sink import Sink
from bot.credentials import FrontKey, load_key
from bot.demo.settings import free_port, new_token
from bot.front.ingest import WEBHOOK_PATH, webhook_secret
from bot.standins.telegram import SimulatorConfig, create_app, running
from bot.store import Database, now
from bot.store.tables import (
    ContainerState,
    InboxStatus,
    InboxUpdate,
    Instance,
    Onboarding,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.toolchain import cache_folder

BENCH = "hot-path"
_FIRST_PERSON = 6_000_000_000
#: Seconds for the service to start, and for the last update to arrive.
_READY_WITHIN = 60.0
_ARRIVED_WITHIN = 60.0
#: Seconds after the start until memory counts as that of an idle service.
_IDLE_AFTER = 15.0


class BenchFailed(Exception):
    """What was measured did not happen as it must; the message says what."""


@dataclass(frozen=True)
class Shape:
    """How much is sent."""

    rate: float
    people: int
    seconds: float


async def measure(shape: Shape, report: Report, tell: Callable[[str], None]) -> None:
    """Measure with SQLite, then with PostgreSQL where it is installed, then the memory."""
    with _folder() as state:
        tell(f"{shape.rate:.0f} updates/s over {shape.people} people for {shape.seconds:.0f} s, SQLite")
        url = f"sqlite+aiosqlite:///{state / 'db' / 'zaki.sqlite3'}"
        await _measure_path(shape, state, url, "", report)
    try:
        with _folder() as state, postgresql() as url:
            tell("the same with PostgreSQL")
            await _measure_path(shape, state, url, "_postgresql", report)
    except NoPostgres as missing:
        tell(str(missing))
    with _folder() as state:
        tell("the memory of an idle service")
        await _measure_memory(state, report)


async def _measure_path(shape: Shape, state: Path, url: str, suffix: str, report: Report) -> None:
    token = new_token()
    key = FrontKey(load_key(state / "keys" / "front.key", shared=True))
    people = [_FIRST_PERSON + number for number in range(shape.people)]
    addresses = [f"127.0.1.{number + 1}" for number in range(shape.people)]
    database = Database(url)
    try:
        await database.migrate()
        await _seed(database, people, addresses)
        sink = Sink()
        async with sink.listening(addresses), _served(state, token, url, "--role", "front") as service:
            port = int(service.url.rpartition(":")[2])
            load = Load("127.0.0.1", port, WEBHOOK_PATH, webhook_secret(key, token))
            # The first requests open connections and fill caches, once in the life of a service.
            await load.run(people, shape.rate, 2.0)
            sent = await load.run(people, shape.rate, shape.seconds)
            await load.close()
            await _until_delivered(database, sink, sent)
    finally:
        await database.close()
    acks = sorted(1000 * seconds for seconds in sent.acks.values())
    late = [1000 * max(0.0, sink.arrivals[number] - at) for number, at in sent.acked_at.items()]
    for name, value in (
        ("ack_p50_ms", statistics.median(acks)),
        ("ack_p99_ms", statistics.quantiles(acks, n=100)[98]),
        ("deliver_p50_ms", statistics.median(late)),
        ("deliver_p99_ms", statistics.quantiles(late, n=100)[98]),
    ):
        report(Figure(BENCH, name + suffix, value, "ms", len(acks)))


async def _measure_memory(state: Path, report: Report) -> None:
    url = f"sqlite+aiosqlite:///{state / 'db' / 'zaki.sqlite3'}"
    async with _served(state, new_token(), url) as service:
        await asyncio.sleep(_IDLE_AFTER)
        report(Figure(BENCH, "memory_idle_mb", _resident(service.pid), "MB", 1))


def _resident(pid: int) -> float:
    """MB of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def _until_delivered(database: Database, sink: Sink, sent: Sent) -> None:
    """Return when every update is at its instance, and refuse to measure anything where one was lost."""
    if sent.refused:
        raise BenchFailed(f"{sent.refused} updates were not acknowledged.")
    waiting = select(func.count()).where(InboxUpdate.status != InboxStatus.DELIVERED)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ARRIVED_WITHIN
    while True:
        async with database.read() as session:
            left = await session.scalar(waiting)
            stored = await session.scalar(select(func.count()).select_from(InboxUpdate)) or 0
        missing = len(sent.acks.keys() - sink.arrivals.keys())
        if not left and not missing and stored >= len(sent.acks):
            return
        if loop.time() > deadline:
            raise BenchFailed(
                f"{left} of {stored} updates were not delivered, {missing} did not arrive; {_log()} may say why."
            )
        await asyncio.sleep(0.2)


async def _seed(database: Database, people: list[int], addresses: list[str]) -> None:
    """Everybody has been here before, and their instance is awake."""
    async with database.write() as session:
        users = [
            User(
                telegram_id=person,
                first_name="Ada",
                status=UserStatus.ACTIVE,
                onboarding=Onboarding.DONE,
                created_at=now(),
            )
            for person in people
        ]
        session.add_all(users)
        await session.flush()
        for number, (user, address) in enumerate(zip(users, addresses, strict=True)):
            session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
            session.add(
                Instance(
                    id=f"u-{number:010d}",
                    user_id=user.id,
                    plan="standard",
                    address=address,
                    image="sha256:" + "0" * 64,
                    container=ContainerState.RUNNING,
                    ready_at=now(),
                    met_generation=1,
                    created_at=now(),
                )
            )


@dataclass(frozen=True)
class _Service:
    pid: int
    #: The public side.
    url: str


@asynccontextmanager
async def _served(state: Path, token: str, database_url: str, *words: str) -> AsyncIterator[_Service]:
    """`zaki serve` as a process, with a simulated Telegram."""
    url = f"http://127.0.0.1:{free_port('127.0.0.1', 0)}"
    async with running(create_app(SimulatorConfig(token=token))) as telegram:
        settings = {
            "STATE": str(state),
            "TELEGRAM_TOKEN": token,
            "TELEGRAM_API": telegram,
            "PUBLIC_URL": url,
            "LISTEN": url.removeprefix("http://"),
            "INSTANCES_LISTEN": "127.0.0.1:0",
            "DATABASE_URL": database_url,
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
        log = _log().open("w")
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("zaki"),
            "serve",
            *words,
            # Not in the checkout: its .env is a real service's.
            cwd=state,
            env={**environment, **{f"ZAKI_{name}": value for name, value in settings.items()}},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=log,
        )
        log.close()
        try:
            await _until_ready(process, url)
            yield _Service(process.pid, url)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_ready(process: asyncio.subprocess.Process, url: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_WITHIN
    async with httpx.AsyncClient(trust_env=False) as http:
        while loop.time() < deadline and process.returncode is None:
            try:
                if (await http.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise BenchFailed(f"The service did not become ready; {_log()} says why.")


def _log() -> Path:
    """What the measured service logged, kept for when it did not do what it should."""
    folder = cache_folder() / "log"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "bench-service.log"


@contextmanager
def _folder() -> Iterator[Path]:
    """A state folder of a host whose instances live on the loopback."""
    facts: dict[str, Any] = {
        "network": "zaki-bench",
        "bridge": "lo",
        "subnet": "127.0.1.0/24",
        "gateway": "127.0.0.1",
        "docker_range": "127.0.1.240/28",
        "image": "sha256:" + "0" * 64,
        "runtime": "runc",
    }
    with tempfile.TemporaryDirectory(prefix="zaki-bench-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        (state / "host.json").write_text(json.dumps(facts))
        yield state
