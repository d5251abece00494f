"""Fixtures for our services with a real database: SQLite in a file, and a PostgreSQL cluster of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from bot.credentials import FrontKey, load_key
from bot.front.context import FrontContext
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.store import Database

TELEGRAM_TOKEN = "123456789:AAtests-only-not-a-real-token-000000"


class PostgresCluster:
    """A temporary PostgreSQL that listens on a Unix socket alone; the server refuses to run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "--username=zaki", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self) -> None:
        """Stop the server; its folder is the caller's to remove."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, name: str) -> str:
        """SQLAlchemy URL of one of the cluster's databases."""
        return f"postgresql+asyncpg://zaki@/{name}?host={self.folder}"

    async def execute(self, statement: str) -> None:
        """Run a statement that may not be in a transaction, such as CREATE DATABASE."""
        engine = create_async_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                await connection.execute(text(statement))
        finally:
            await engine.dispose()

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl's server inherits its output, so a pipe here would never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self._programs / program, *arguments],
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PGDATA": str(self.folder / "data")},
                cwd=self.folder,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
            if done.returncode != 0:
                output.seek(0)
                pytest.fail(f"PostgreSQL's {program} failed, see its words: {output.read()}", pytrace=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """The cluster that all tests of a session share, each with a database of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL's programs are missing; run `scripts/setup`, which installs them.", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="zaki-pg-", dir="/tmp"))
    cluster = PostgresCluster(folder, found[-1].parent)
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of an empty database of the test's own, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'db' / 'zaki.sqlite3'}"
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    name = f"zaki_{uuid4().hex}"
    await cluster.execute(f"CREATE DATABASE {name}")
    try:
        yield cluster.url(name)
    finally:
        await cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with the newest schema, once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings for a state folder of the test's own, whatever the environment and `.env` say."""
    for name in [name for name in os.environ if name.upper().startswith("ZAKI_")]:
        monkeypatch.delenv(name)

    def make(**changes: Any) -> Settings:
        defaults: dict[str, Any] = {
            "telegram_token": TELEGRAM_TOKEN,
            "telegram_api": "http://127.0.0.1:9",
            "state": tmp_path / "state",
            "instances_listen": "127.0.0.1:0",
        }
        return Settings(_env_file=None, **{**defaults, **changes})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Settings with nothing special."""
    return make_settings()


@pytest.fixture
def host_facts() -> HostFacts:
    """A host whose bridge is the loopback network, so that stand-ins can be instances."""
    return HostFacts(
        network="zaki0",
        bridge="zaki0",
        subnet=IPv4Network("127.0.0.0/8"),
        gateway=IPv4Address("127.0.0.1"),
        docker_range=IPv4Network("127.255.0.0/16"),
        image="sha256:" + "0" * 64,
        runtime="runc",
    )


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The client that a front's parts share."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
def make_context(
    database: Database, host_facts: HostFacts, http: httpx.AsyncClient
) -> Callable[[Settings], FrontContext]:
    """Build what the front's parts share, with the given settings."""

    def make(settings: Settings) -> FrontContext:
        key = FrontKey(load_key(settings.state / "keys" / "front.key"))
        return FrontContext(settings, database, Nudge(), host_facts, key, http)

    return make


@pytest.fixture
def context(make_context: Callable[[Settings], FrontContext], settings: Settings) -> FrontContext:
    """What the front's parts share, with settings that have nothing special."""
    return make_context(settings)
