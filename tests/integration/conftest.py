"""Fixtures for our services with a real database: SQLite in a file, and a PostgreSQL cluster of the tests' own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.credentials import FrontKey, load_key
from bot.front.context import FrontContext
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.store import Database
from tests.postgres import PostgresCluster

TELEGRAM_TOKEN = "123456789:AAtests-only-not-a-real-token-000000"


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of an empty database of the test's own, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'db' / 'zaki.sqlite3'}"
        return
    cluster: PostgresCluster = request.getfixturevalue("postgres")
    async with cluster.new_database() as url:
        yield url


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
