"""What is left in the real Docker daemon is told, and only what is this state folder's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.credentials import new_instance_id
from bot.provisioner.leftovers import find_leftovers
from bot.provisioner.stacks import StackManager
from bot.settings import Settings, load_settings
from bot.store import Database, now
from bot.store.tables import Instance
from tests.e2e.conftest import Docker, DockerHost, Specify


@pytest.fixture
def settings(tmp_path: Path, docker_host_stack: DockerHost) -> Settings:
    """A state folder whose host is the session's."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "host.json").write_text((docker_host_stack.state / "host.json").read_text())
    return load_settings(_env_file=None, state=state, telegram_token="1:a", telegram_api="http://127.0.0.1:9")


@pytest.fixture
async def database(settings: Settings) -> Database:
    """Its database."""
    database = Database(settings.effective_database_url)
    await database.migrate()
    return database


@pytest.fixture
def name(docker: Docker) -> Iterator[str]:
    """An instance's id; what carries it is removed after the test."""
    name = new_instance_id()
    yield name
    docker("rm", "-f", name, f"{name}-helper", check=False)
    docker("volume", "rm", "-f", name, check=False)


async def found(settings: Settings) -> set[str]:
    """What is told, each as half a sentence."""
    seen = await find_leftovers(settings)
    assert not seen.unseen
    return {thing.what for thing in seen.leftovers}


async def test_an_orphan_is_told_until_it_is_gone(
    settings: Settings,
    database: Database,
    docker: Docker,
    docker_host_stack: DockerHost,
    sleeping_image: str,
    name: str,
) -> None:
    network = docker_host_stack.spec.network
    try:
        docker("create", "--name", name, "--label", f"zaki.instance={name}", "--network", network, sleeping_image)
        docker("volume", "create", "--label", f"zaki.instance={name}", "--label", f"zaki.network={network}", name)
        docker("create", "--name", f"{name}-helper", "--label", f"zaki.helper={name}", "--network=none", sleeping_image)
        told = await found(settings)
        assert {f"the container {name} belongs to no instance", f"the volume {name} belongs to no instance"} <= told
        assert f"a helper's container of {name}" in told
        assert docker.inspect("container", name) is not None
        printed = zaki_doctor(settings)
        assert {check["found"] for check in printed if check["name"] == "Leftovers"} == told
        assert all("zaki doctor --fix" in str(check["cure"]) for check in printed if check["name"] == "Leftovers")
        docker("rm", name, f"{name}-helper")
        docker("volume", "rm", name)
        assert await found(settings) == set()
        [clean] = [check for check in zaki_doctor(settings) if check["name"] == "Leftovers"]
        assert (clean["ok"], clean["found"]) == (True, "none")
    finally:
        await database.close()


async def test_what_is_on_another_network_is_somebody_elses(
    settings: Settings, database: Database, docker: Docker, sleeping_image: str, name: str
) -> None:
    try:
        docker("create", "--name", name, "--label", f"zaki.instance={name}", sleeping_image)
        docker("volume", "create", "--label", f"zaki.instance={name}", "--label", "zaki.network=zaki-elsewhere", name)
        docker("create", "--name", f"{name}-helper", "--label", f"zaki.helper={name}", sleeping_image)
        assert await found(settings) == set()
    finally:
        await database.close()


async def test_a_declared_instance_is_clean_until_its_container_is_gone(
    settings: Settings, database: Database, docker: Docker, specify: Specify, stacks: StackManager
) -> None:
    spec = specify()
    try:
        async with database.write() as session:
            session.add(
                Instance(id=spec.id, plan="standard", image=spec.image, created_at=now(), declared_hash="0" * 64)
            )
        await stacks.up(spec)
        assert await found(settings) == set()
        docker("rm", "-f", spec.id)
        assert await found(settings) == {f"{spec.id} has no container any more"}
        await stacks.repair(spec.id)
        assert await found(settings) == set()
        await stacks.destroy(spec.id)
        async with database.write() as session:
            await session.delete(await session.get_one(Instance, spec.id))
        assert await found(settings) == set()
    finally:
        await database.close()


def zaki_doctor(settings: Settings) -> list[dict[str, object]]:
    """What `zaki doctor --json` prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZAKI_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("zaki"), "doctor", "--json"],
        env=environment | {"ZAKI_STATE": str(settings.state)},
        cwd=settings.state,
        capture_output=True,
        text=True,
        check=False,
    )
    checks: list[dict[str, object]] = json.loads(done.stdout)
    return checks
