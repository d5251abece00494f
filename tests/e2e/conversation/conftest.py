"""Services for conversations with the real Docker, Pulumi and OpenClaw."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.provisioner.single import provisioning
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from tests.e2e.conftest import DockerHost
from tests.e2e.conversation.served import TOKEN, ServedZaki
from tests.postgres import PostgresCluster


@pytest.fixture
async def zaki(docker_host_stack: DockerHost, tmp_path: Path) -> AsyncIterator[ServedZaki]:
    """A fresh service in one process, on SQLite, with nobody in it."""
    async with serving(docker_host_stack, tmp_path) as served:
        yield served


@pytest.fixture
async def zaki_in_two(
    docker_host_stack: DockerHost, postgres: PostgresCluster, tmp_path: Path
) -> AsyncIterator[ServedZaki]:
    """A fresh service whose front and provisioner are two processes, on PostgreSQL, called by webhook."""
    async with (
        postgres.new_database() as url,
        serving(docker_host_stack, tmp_path, roles=("provisioner", "front"), database_url=url, webhook=True) as served,
    ):
        yield served


@asynccontextmanager
async def serving(
    host: DockerHost,
    folder: Path,
    *,
    roles: tuple[str, ...] = (),
    database_url: str | None = None,
    webhook: bool = False,
    pool: int = 0,
) -> AsyncIterator[ServedZaki]:
    """A service during the block; everything that it makes is removed at the end."""
    state = folder / "state"
    state.mkdir()
    shutil.copy(host.state / "host.json", state)
    simulator = create_app(SimulatorConfig(token=TOKEN))
    async with running(simulator, host="127.0.0.1", port=0) as api, SimulatorClient(api) as people:
        served = ServedZaki(state, people, api, folder / "zaki.log", host.facts, roles, database_url, webhook, pool)
        try:
            await served.start()
            yield served
        finally:
            served.stop()
            async with provisioning(served.settings, served.database) as provisioner:
                await provisioner.remove_all()
            await served.database.close()
