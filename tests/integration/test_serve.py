"""The service as a process: what it listens on, what it says, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.listeners import ListenError, listen
from bot.nudge import Topic
from bot.serve import Role, Service
from bot.settings import Settings, SettingsError
from bot.standins.telegram import SimulatorConfig, create_app, running

TOKEN = "123456789:AAtests-only-not-a-real-token-000000"
HOST = {
    "network": "zaki-test",
    "bridge": "zaki-test",
    "subnet": "127.0.0.0/8",
    "gateway": "127.0.0.1",
    "docker_range": "127.255.0.0/16",
    "image": "sha256:" + "0" * 64,
    "runtime": "runc",
}
MakeSettings = Callable[..., Settings]


@pytest.fixture
async def telegram() -> AsyncIterator[str]:
    """The Bot API of a simulated bot."""
    async with running(create_app(SimulatorConfig(token=TOKEN))) as url:
        yield url


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of a host that was declared."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "host.json").write_text(json.dumps(HOST))
    return state


async def test_both_sides_are_served_on_sockets_of_their_own(
    make_settings: MakeSettings, telegram: str, state: Path
) -> None:
    service = Service(make_settings(telegram_api=telegram, listen="127.0.0.1:0", state=state), Role.FRONT)
    await service.startup()
    try:
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{service.public_url}/healthz")).status_code == 200
            assert (await http.get(f"{service.public_url}/llm/v1/models")).status_code == 404
            assert (await http.get(f"{service.bridge_url}/llm/v1/models")).status_code == 401
            assert (await http.post(f"{service.bridge_url}/telegram/webhook")).status_code == 404
        said = service.describe()
        assert service.public_url in said
        assert service.bridge_url in said
        assert telegram in said
    finally:
        await service.shutdown()
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{service.public_url}/healthz")


async def test_a_port_in_use_leaves_nothing_behind(make_settings: MakeSettings, telegram: str, state: Path) -> None:
    before = len(asyncio.all_tasks())
    with listen("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        settings = make_settings(telegram_api=telegram, listen=f"127.0.0.1:{port}", state=state)
        with pytest.raises(ListenError, match="ZAKI_LISTEN"):
            await Service(settings, Role.FRONT).startup()
    assert sorted(path.name for path in state.iterdir()) == ["host.json"]
    assert len(asyncio.all_tasks()) == before


async def test_a_token_that_telegram_refuses_is_a_wrong_setting(
    make_settings: MakeSettings, telegram: str, state: Path
) -> None:
    other = "123456789:AAanother-bots-token-0000000000000000"
    settings = make_settings(telegram_token=other, telegram_api=telegram, listen="127.0.0.1:0", state=state)
    with pytest.raises(SettingsError, match="ZAKI_TELEGRAM_TOKEN"):
        await Service(settings, Role.FRONT).startup()
    assert not list((state / "db").iterdir())


async def test_it_starts_while_telegram_is_away(make_settings: MakeSettings, state: Path) -> None:
    service = Service(make_settings(telegram_api="http://127.0.0.1:9", listen="127.0.0.1:0", state=state), Role.FRONT)
    await service.startup()
    try:
        assert "Telegram does not answer yet" in service.describe()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{service.public_url}/healthz")).status_code == 200
    finally:
        await service.shutdown()


@asynccontextmanager
async def zaki_serve(*words: str, **settings: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """`zaki serve` as a process, which is killed if the block leaves it running."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("zaki"),
        "serve",
        *words,
        env={**environment, **{f"ZAKI_{name.upper()}": str(value) for name, value in settings.items()}},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_gracefully(number: signal.Signals, telegram: str, state: Path) -> None:
    settings = {
        "telegram_token": TOKEN,
        "telegram_api": telegram,
        "state": state,
        "listen": "127.0.0.1:0",
        "instances_listen": "127.0.0.1:0",
    }
    async with zaki_serve("--role", "front", **settings) as process:
        assert process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(30):
            while not any("Open " in line for line in lines):
                line = (await process.stderr.readline()).decode()
                assert line, lines
                lines.append(line)
            process.send_signal(number)
            lines += (await process.stderr.read()).decode().splitlines()
            assert await process.wait() == 0
    assert json.loads(lines[-1])["event"].startswith("Zaki stopped")
    assert TOKEN not in "".join(lines)
    assert "Traceback" not in "".join(lines)


@pytest.fixture
def few_files() -> Iterator[int]:
    """Processes that start now may have few files open, and more if they ask; yields the limit that they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_it_may_have_all_the_files_that_the_system_gives(few_files: int, telegram: str, state: Path) -> None:
    settings = {"telegram_token": TOKEN, "telegram_api": telegram, "state": state}
    listens = {"listen": "127.0.0.1:0", "instances_listen": "127.0.0.1:0"}
    async with zaki_serve("--role", "front", **settings, **listens) as process:
        assert process.stderr is not None
        async with asyncio.timeout(30):
            while b"Open " not in (line := await process.stderr.readline()):
                assert line
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (few_files, few_files)


async def test_the_roles_nudge_each_other_over_sockets(make_settings: MakeSettings, telegram: str, state: Path) -> None:
    front = Service(make_settings(telegram_api=telegram, listen="127.0.0.1:0", state=state), Role.FRONT)
    provisioner = Service(make_settings(telegram_api=telegram, listen="127.0.0.1:0", state=state), Role.PROVISIONER)
    (state / "run").mkdir()
    front.nudge.open()
    provisioner.nudge.open()
    try:
        seen = provisioner.nudge.seen(Topic.WISHES)
        front.nudge.ring(Topic.WISHES)
        async with asyncio.timeout(10):
            await provisioner.nudge.wait(Topic.WISHES, seen, timeout=60)
        assert provisioner.nudge.seen(Topic.WISHES) == seen + 1
    finally:
        provisioner.nudge.close()
        front.nudge.close()
