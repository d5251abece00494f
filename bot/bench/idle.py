"""What it costs to look after instances that rest: the provisioner's processor time, and Docker's."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bot.bench.figures import Figure, Report
from bot.credentials import new_instance_id
from bot.demo.host import ensure_host, remove_host
from bot.demo.settings import demo_settings, new_token
from bot.hostfacts import HostFacts
from bot.provisioner.decision import LOOK_ANYWAY
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, Onboarding, User, UserStatus, Wanted, Wish
from bot.toolchain import cache_folder
from infra.spec import INSTANCE_LABEL

BENCH = "idle"
_AT_ONCE = 8
#: Seconds until the provisioner has looked at the whole world once.
_SETTLED_AFTER = 30.0
_READY_WITHIN = 60.0


class BenchFailed(Exception):
    """The provisioner did not run; the message says where its log is."""


async def measure(count: int, seconds: float, report: Report, tell: Callable[[str], None]) -> None:
    """Let a provisioner look after so many stopped instances for so long; report percent of one core.

    Their containers are real, their people and stacks are not: nobody writes, so no stack is touched.
    """
    state = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    ids = [new_instance_id() for _ in range(count)]
    try:
        tell("declaring the host")
        host = await ensure_host(state)
        settings = demo_settings(state, "http://127.0.0.1:9", new_token(), host, 0)
        database = Database(settings.effective_database_url)
        try:
            await database.migrate()
            await _seed(database, ids, host)
        finally:
            await database.close()
        tell(f"making {count} containers")
        await _docker_each(ids, ["create", "--network", "none"], [host.image])
        async with _provisioner(settings) as pid:
            await asyncio.sleep(_SETTLED_AFTER)
            tell(f"measuring for {seconds:.0f} seconds")
            docker = _pids_named("dockerd")
            began, ours, theirs = time.perf_counter(), _cpu([pid]), _cpu(docker)
            await asyncio.sleep(seconds)
            lasted = time.perf_counter() - began
            mine, dockers = _cpu([pid]) - ours, _cpu(docker) - theirs
    finally:
        tell("removing them")
        await _docker_each(ids, ["rm", "--force"], [], named=False)
        await remove_host(state)
        shutil.rmtree(state)
    report(Figure(BENCH, f"reconciling_{count}_percent", 100 * mine / lasted, "%", 1))
    report(Figure(BENCH, "docker_percent", 100 * dockers / lasted, "%", 1))


async def _seed(database: Database, ids: Sequence[str], host: HostFacts) -> None:
    """Everybody was here once, and their instance has been stopped since."""
    at = now()
    async with database.write() as session:
        users = [
            User(
                telegram_id=1_000_000 + number,
                first_name="Ada",
                status=UserStatus.ACTIVE,
                onboarding=Onboarding.DONE,
                created_at=at,
                last_message_at=at - 3600,
            )
            for number in range(len(ids))
        ]
        session.add_all(users)
        await session.flush()
        for number, (user, instance_id) in enumerate(zip(users, ids, strict=True)):
            session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=at))
            session.add(
                Instance(
                    id=instance_id,
                    user_id=user.id,
                    plan="standard",
                    address=str(host.subnet.network_address + 2 + number),
                    image=host.image,
                    container=ContainerState.CREATED,
                    declared_hash="0" * 64,
                    met_generation=1,
                    resting_since=at,
                    # As they are after a while: each looked at once an hour, at a time of its own.
                    next_look_at=at + random.uniform(0, LOOK_ANYWAY),  # noqa: S311
                    created_at=at,
                )
            )


async def _docker_each(ids: Sequence[str], before: list[str], after: list[str], *, named: bool = True) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(instance_id: str) -> None:
        name = ["--name", instance_id, "--label", f"{INSTANCE_LABEL}={instance_id}"] if named else [instance_id]
        async with gate:
            process = await asyncio.create_subprocess_exec(
                "docker", *before, *name, *after, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            await process.wait()

    await asyncio.gather(*(one(instance_id) for instance_id in ids))


@asynccontextmanager
async def _provisioner(settings: Settings) -> AsyncIterator[int]:
    """A provisioner's process; yields its id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
    environment |= {
        "ZAKI_STATE": str(settings.state),
        "ZAKI_TELEGRAM_TOKEN": new_token(),
        "ZAKI_TELEGRAM_API": settings.telegram_api,
        "ZAKI_POOL": "0",
    }
    file = cache_folder() / "log" / "bench-idle.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("zaki"), "serve", "--role", "provisioner"),
            cwd=settings.state,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _READY_WITHIN
        while not (settings.state / "run" / "provisioner.sock").exists():
            if process.returncode is not None or time.monotonic() > deadline:
                raise BenchFailed(f"The provisioner did not start; {file} says why.")
            await asyncio.sleep(0.1)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _pids_named(name: str) -> list[int]:
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if _comm(path) == name]


def _comm(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of processor time that the processes have taken, with those of theirs that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
