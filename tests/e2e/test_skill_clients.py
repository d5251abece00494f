"""Both real clients, unmodified: against the stand-in registry, and through Zaki's mirror."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from bot.credentials import FrontKey
from bot.front.context import FrontContext
from bot.front.skills import Mirror, router
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.skills import locks
from bot.skills.names import SkillName
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import Instance, SkillVersion
from bot.toolchain import cache_folder, read_pins
from tests.e2e.conftest import Docker

PROJECT = Path(__file__).resolve().parents[2]
INSTANCE = "u-aaaaaaaaaa"
POLICY = "/usr/local/lib/zaki/install-policy"
HOME = "/home/node"
STATE = f"{HOME}/.openclaw"


@dataclass
class Clients:
    """A container with OpenClaw and ClawHub's client in it."""

    container: str

    async def openclaw(self, url: str, *words: str, code: int | None = 0) -> str:
        """`openclaw skills …` with the registry at `url`."""
        environment = {"OPENCLAW_CLAWHUB_URL": url, "OPENCLAW_STATE_DIR": STATE}
        return await self.run(environment, "node", "/app/openclaw.mjs", "skills", *words, code=code)

    async def clawhub(self, url: str, *words: str, code: int | None = 0) -> str:
        """`clawhub …` with the registry at `url`."""
        client = "/clawhub/node_modules/clawhub/bin/clawdhub.js"
        environment = {"CLAWHUB_REGISTRY": url, "CLAWHUB_CONFIG_PATH": f"{HOME}/clawhub.json"}
        return await self.run(environment, "node", client, "--workdir", f"{HOME}/clawhub", *words, code=code)

    async def run(self, environment: dict[str, str], *words: str, code: int | None = 0, given: str = "") -> str:
        """What a command prints."""
        options = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            "docker", "exec", "--interactive", *options, self.container, *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate(given.encode())
        text = said.decode()
        assert code is None or process.returncode == code, text
        return text

    async def read(self, path: str) -> dict[str, Any]:
        """A JSON file in it."""
        found: dict[str, Any] = json.loads(await self.run({}, "cat", path))
        return found


@pytest.fixture
def clients(docker: Docker) -> Iterator[Clients]:
    """On the host's network, so that they call from 127.0.0.1."""
    pins = read_pins()
    clawhub = cache_folder() / "clawhub" / pins["CLAWHUB_VERSION"]
    if not clawhub.is_dir():
        pytest.fail("ClawHub's client is missing; run `scripts/setup tests`.", pytrace=False)
    name = f"zaki-skills-{uuid4().hex[:8]}"
    docker(
        "run", "--detach", "--name", name, "--network", "host", "--init",
        "--volume", f"{clawhub}:/clawhub:ro",
        "--volume", f"{PROJECT / 'scripts/image/install-policy'}:{POLICY}:ro",
        pins["IMAGE_TAG"], "sleep", "infinity",
    )  # fmt: skip
    try:
        docker("exec", name, "mkdir", "-p", f"{HOME}/clawhub", f"{STATE}/workspace")
        yield Clients(name)
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass
class Site:
    """A registry, and a mirror before it."""

    registry: Registry
    registry_url: str
    mirror: Mirror
    url: str
    database: Database


@asynccontextmanager
async def site(state: Path) -> AsyncIterator[Site]:
    """Served on the loopback interface, whose address is an instance's."""
    registry = Registry(samples())
    async with AsyncExitStack() as stack:
        registry_url = await stack.enter_async_context(running(registry_app(registry)))
        settings = Settings(_env_file=None, state=state, telegram_api="http://127.0.0.1:9", skills_url=registry_url)
        database = Database(settings.effective_database_url)
        stack.push_async_callback(database.close)
        await database.migrate()
        async with database.write() as session:
            session.add(Instance(id=INSTANCE, plan="standard", address="127.0.0.1", image="x", created_at=now()))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        mirror = Mirror(settings, database, http)
        stack.push_async_callback(mirror.close)
        network = IPv4Network("127.0.0.0/8")
        host = HostFacts("n", "b", network, IPv4Address("127.0.0.1"), network, "sha256:0", "runc")
        context = FrontContext(settings, database, Nudge(), host, FrontKey(bytes(32)), http)
        app = FastAPI()
        app.include_router(router(context, mirror))
        url = await stack.enter_async_context(running(app))
        yield Site(registry, registry_url, mirror, f"{url}/skills", database)


@pytest.mark.parametrize("through", ["registry", "mirror"])
async def test_both_clients_search_install_update_and_verify(clients: Clients, tmp_path: Path, through: str) -> None:
    async with site(tmp_path) as here:
        url = here.url if through == "mirror" else here.registry_url
        lock, _ = await asyncio.gather(_by_openclaw(clients, url), _by_clawhub(clients, url))
        if through == "mirror":
            await _check_mirror(clients, here, lock)


async def _by_openclaw(clients: Clients, url: str) -> dict[str, Any]:
    """What OpenClaw notes of the skill in the end."""
    assert "city-weather" in await clients.openclaw(url, "search", "weather")
    await clients.openclaw(url, "install", "@samples/city-weather", "--version", "1.0.0")
    await clients.openclaw(url, "update", "@samples/city-weather")
    lock = await clients.read(f"{STATE}/workspace/.clawhub/lock.json")
    noted: dict[str, Any] = lock["skills"]["city-weather"]
    assert (noted["version"], noted["verification"]["ok"]) == ("1.1.0", True)
    assert "weather" in await clients.openclaw(url, "verify", "@samples/city-weather", "--card")
    return noted


async def _by_clawhub(clients: Clients, url: str) -> None:
    assert "city-weather" in await clients.clawhub(url, "search", "weather")
    await clients.clawhub(url, "install", "@samples/meeting-notes", "--version", "1.0.0")
    assert "v2.0.0" in await clients.clawhub(url, "update", "--all")
    shown = await clients.clawhub(url, "inspect", "@samples/meeting-notes", "--versions", "--files")
    assert "2.0.0" in shown
    assert "SKILL.md" in shown
    await clients.clawhub(url, "install", "@samples/coin-helper", code=1)


async def _check_mirror(clients: Clients, here: Site, noted: dict[str, Any]) -> None:
    assert set(here.registry.downloads.values()) == {1}
    async with here.database.read() as session:
        row = await session.get_one(SkillVersion, ("samples", "city-weather", "1.1.0"))
        assert (noted["fileTreeSha256"], noted["artifact"]["sha256"]) == (row.digest, row.archive)
        had = {(lock.slug, lock.version) for lock in await locks.of_instance(session, INSTANCE)}
    assert {("city-weather", "1.0.0"), ("city-weather", "1.1.0"), ("meeting-notes", "2.0.0")} <= had
    await here.mirror.recall(SkillName("samples", "tide-tables"), None, "It lies about the sea.")

    async def refused_by_both(slug: str, says: str) -> None:
        for client in (clients.openclaw, clients.clawhub):
            assert says in await client(here.url, "install", f"@samples/{slug}", code=1)

    # One after the other: OpenClaw lets nobody install anything while something else is being installed.
    await refused_by_both("odd-traversal", "leads out of its folder")
    await refused_by_both("tide-tables", "It lies about the sea.")


async def test_openclaws_install_policy_asks_the_mirror_and_fails_closed(clients: Clients, tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        policy = {
            "enabled": True,
            "exec": {"source": "exec", "command": POLICY, "env": {"ZAKI_SKILLS": here.url}},
        }
        config = json.dumps({"security": {"installPolicy": policy}})
        await clients.run({}, "sh", "-c", f"umask 077; cat >{STATE}/openclaw.json", given=config)
        await clients.openclaw(here.url, "install", "@samples/tide-tables")
        side_loaded = "---\nname: mine\ndescription: x\n---\n"
        await clients.run({}, "sh", "-c", f"mkdir {HOME}/mine; cat >{HOME}/mine/SKILL.md", given=side_loaded)
        assert "has not vetted these files" in await clients.openclaw(here.url, "install", f"{HOME}/mine", code=1)
        # Past the mirror: OpenClaw itself only shows what is suspicious, and goes on.
        suspicious = await clients.openclaw(here.registry_url, "install", "@samples/page-grabber", code=1)
        assert "did not pass it" in suspicious
    # The mirror is gone.
    direct = {"ZAKI_SKILLS": here.url}
    request = json.dumps({"protocolVersion": 1, "targetType": "plugin", "origin": {}})
    answer = json.loads(await clients.run(direct, POLICY, given=request))
    assert (answer["decision"], "cannot check" in answer["reason"]) == ("block", True)
    answer = json.loads(await clients.run({}, POLICY, given="nonsense"))
    assert answer["decision"] == "block"


def test_the_policy_is_an_executable_that_openclaw_accepts() -> None:
    file = PROJECT / "scripts/image/install-policy"
    assert os.access(file, os.X_OK)
    assert not file.is_symlink()
    assert file.read_text().startswith("#!/usr/local/bin/node\n")
