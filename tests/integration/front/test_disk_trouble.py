"""A disk that is really full, and a database file that is really read-only, under a running front."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from bot.credentials import FrontKey, load_key
from bot.disk import CannotKeep, require_writable
from bot.front.app import Front, bridge_app, public_app
from bot.front.context import FrontContext
from bot.front.delivery import Delivery
from bot.front.ingest import WEBHOOK_PATH, webhook_secret
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.standins.serving import running
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app
from bot.store import Database
from bot.store.tables import Counter, Instance
from tests.disks import fill, small_disk
from tests.integration.conftest import TELEGRAM_TOKEN
from tests.integration.front.conftest import Gateways, Side, eventually
from tests.updates import text_message

MakeSettings = Callable[..., Settings]
BEGINS, ENDS = "the database cannot be used", "the database can be used again"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of the test's own."""
    with small_disk(tmp_path, 64) as disk:
        yield disk


@dataclass
class Served:
    """A front on the disk, with what its neighbours see."""

    front: Front
    side: Side
    people: SimulatorClient
    public: httpx.AsyncClient
    bridge: httpx.AsyncClient
    gateways: Gateways
    logs: list[Any]

    def told(self, beginning: str) -> int:
        """How many lines of the log begin so."""
        return sum(str(line["event"]).startswith(beginning) for line in self.logs)

    def errors(self) -> list[Any]:
        """What was logged as an error."""
        return [line for line in self.logs if line["log_level"] in ("error", "critical")]

    async def webhook(self, update_id: int) -> int:
        """The status that Telegram gets for an update."""
        secret = webhook_secret(self.front.context.key, TELEGRAM_TOKEN)
        headers = {"X-Telegram-Bot-Api-Secret-Token": secret}
        body = text_message(update_id, 77, "x" * 3000)
        return (await self.public.post(WEBHOOK_PATH, content=body, headers=headers)).status_code

    async def ready(self) -> dict[str, str] | None:
        """None where it is ready, else what is not."""
        answer = await self.public.get("/readyz")
        checks = answer.json()["checks"]
        return None if answer.status_code == 200 else {k: v for k, v in checks.items() if v != "ok"}


@asynccontextmanager
async def served(
    settings: Settings, host: HostFacts, gateways: Gateways, people: SimulatorClient
) -> AsyncIterator[Served]:
    async with httpx.AsyncClient(trust_env=False) as http:
        database = Database(settings.effective_database_url)
        await database.migrate()
        key = FrontKey(load_key(settings.state / "keys" / "front.key"))
        context = FrontContext(settings, database, Nudge(), host, key, http)
        front = Front(context, Delivery(key, gateways.port))
        side = Side(context, front.inbox, front.router)
        with capture_logs() as logs:
            async with (
                running(public_app(front)) as public,
                running(bridge_app(front)) as bridge,
                httpx.AsyncClient(base_url=public, trust_env=False) as outside,
                httpx.AsyncClient(base_url=bridge, trust_env=False, timeout=60) as inside,
            ):
                await front.start()
                try:
                    yield Served(front, side, people, outside, inside, gateways, logs)
                finally:
                    await front.stop()
                    await database.close()


@pytest.fixture
async def on_disk(
    disk: Path, make_settings: MakeSettings, host_facts: HostFacts, gateways: Gateways
) -> AsyncIterator[Served]:
    """A front whose state folder is on the small disk, and Ada with an instance that is up."""
    async with (
        running(create_app(SimulatorConfig(token=TELEGRAM_TOKEN))) as url,
        SimulatorClient(url) as people,
        served(make_settings(telegram_api=url, state=disk / "state"), host_facts, gateways, people) as zaki,
    ):
        yield zaki


async def up(zaki: Served) -> tuple[Any, Instance]:
    """Ada, whose first message has reached her instance."""
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "first")

    async def wished() -> bool:
        return await zaki.side.wish(ada.id) is not None

    await eventually(wished, 30)
    instance = await zaki.side.bring_up(ada.id)
    await arrived(zaki, "first")
    return ada, instance


async def arrived(zaki: Served, text: str) -> None:
    async def there() -> bool:
        return any(text.encode() in body for body in zaki.gateways.bodies["127.0.0.1"])

    await eventually(there, 60)


async def trouble(zaki: Served) -> dict[str, str]:
    async def seen() -> dict[str, str] | None:
        found = await zaki.ready()
        return found if found and "database" in found else None

    return dict(await eventually(seen, 30))


async def over(zaki: Served) -> None:
    async def seen() -> bool:
        return await zaki.ready() is None

    await eventually(seen, 60)


async def test_a_full_disk_is_told_once_and_all_goes_on_when_there_is_room(on_disk: Served, disk: Path) -> None:
    zaki = on_disk
    ada, instance = await up(zaki)
    filler = fill(disk)
    # What still fits into the last pages is taken; sooner or later nothing does.
    statuses = [await zaki.webhook(9_000 + number) for number in range(300)]
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 503
    found = await trouble(zaki)
    assert "full" in found["database"]
    assert "left" in found["disk"]
    said = await zaki.people.say(ada, "while it is full")

    token = zaki.front.context.key.derive(instance.id, 1).bot_token
    upload = await zaki.bridge.post(
        f"/telegram/bot{token}/sendDocument", data={"chat_id": ada.id}, files={"document": ("a.bin", b"x" * 2**20)}
    )
    assert (upload.status_code, upload.json()["ok"]) == (400, False)
    assert "no room" in upload.json()["description"]
    assert list((disk / "state" / "spool").iterdir()) == []
    reply = asyncio.create_task(
        zaki.bridge.post(f"/telegram/bot{token}/sendMessage", json={"chat_id": ada.id, "text": "a reply"})
    )
    assert zaki.told(BEGINS) == 1
    assert zaki.told(ENDS) == 0

    filler.unlink()
    await over(zaki)
    assert (await reply).json()["ok"] is True
    await zaki.people.wait_for_reply(ada, after=said.id, timeout=30, predicate=lambda it: it.text == "a reply")
    await arrived(zaki, "while it is full")
    repeated = [await zaki.webhook(9_000 + number) for number in range(300)]
    assert set(repeated) == {200}
    assert len([row for row in await zaki.side.rows() if row.telegram_id == 77]) == 300
    assert (zaki.told(BEGINS), zaki.told(ENDS)) == (1, 1)
    assert len(zaki.errors()) == 1, zaki.errors()


async def test_a_database_that_becomes_read_only_is_told_once(on_disk: Served, disk: Path) -> None:
    zaki = on_disk
    ada, _ = await up(zaki)
    # Not SQLite's memory-mapped index: the kernel ends whoever writes to one that became immutable (SIGBUS).
    files = [path for path in (disk / "state" / "db").iterdir() if not path.name.endswith("-shm")]
    subprocess.run(["chattr", "+i", *files], check=True)
    assert await zaki.webhook(9_000) == 503
    assert (await trouble(zaki))["database"]
    await zaki.people.say(ada, "while it is read-only")
    for number in range(20):
        assert await zaki.webhook(9_001 + number) == 503
    assert zaki.told(BEGINS) == 1
    subprocess.run(["chattr", "-i", *files], check=True)
    await over(zaki)
    await arrived(zaki, "while it is read-only")
    assert await zaki.webhook(9_000) == 200
    assert (zaki.told(BEGINS), zaki.told(ENDS)) == (1, 1)
    assert len(zaki.errors()) == 1, zaki.errors()


async def test_a_connection_that_began_read_only_is_not_kept(disk: Path) -> None:
    path = disk / "zaki.sqlite3"
    first = Database(f"sqlite+aiosqlite:///{path}")
    await first.migrate()
    await first.close()
    # Others can read a database of this kind only beside a writer's files.
    keeper = sqlite3.connect(path)
    keeper.execute("SELECT * FROM counters").fetchall()
    subprocess.run(["chattr", "+i", path], check=True)
    database = Database(f"sqlite+aiosqlite:///{path}")

    async def add(name: str) -> None:
        async with database.write() as session:
            session.add(Counter(name=name))

    with pytest.raises(OperationalError, match="readonly"):
        await add("refused")
    subprocess.run(["chattr", "-i", path], check=True)
    async with asyncio.timeout(30):
        await database.trouble.wait_over(60)
    await add("taken")
    await database.close()
    keeper.close()


def test_a_start_without_room_is_refused_in_a_sentence(disk: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(state=disk / "state")
    require_writable(settings)
    assert not settings.state.exists()
    filler = fill(disk)
    with pytest.raises(CannotKeep, match="full; free 16 MiB"):
        require_writable(settings)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 8 * 2**20)
    with pytest.raises(CannotKeep, match="MiB left"):
        require_writable(settings)
    assert not settings.state.exists()


def test_the_command_says_so_and_makes_nothing(disk: Path) -> None:
    state = disk / "state"
    state.mkdir()
    facts = {"network": "n", "bridge": "n", "subnet": "127.0.0.0/8", "gateway": "127.0.0.1"}
    more = {"docker_range": "127.255.0.0/16", "image": "sha256:0", "runtime": "runc"}
    (state / "host.json").write_text(json.dumps(facts | more))
    fill(disk)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("zaki"), "serve"],
        env=environment | {"ZAKI_STATE": str(state), "ZAKI_TELEGRAM_TOKEN": TELEGRAM_TOKEN, "ZAKI_OPERATORS": "1"},
        cwd=disk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert " ".join(done.stderr.split()) == f"The disk of {state} is full; free 16 MiB there, or move ZAKI_STATE."
    assert [path.name for path in state.iterdir()] == ["host.json"]


def test_a_start_on_what_is_read_only_is_refused_in_a_sentence(disk: Path, make_settings: MakeSettings) -> None:
    settings = make_settings(state=disk / "state")
    database = disk / "state" / "db" / "zaki.sqlite3"
    database.parent.mkdir(parents=True)
    database.touch()
    require_writable(settings)
    subprocess.run(["chattr", "+i", database], check=True)
    with pytest.raises(CannotKeep, match=str(database)):
        require_writable(settings)
    subprocess.run(["chattr", "-i", database], check=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(CannotKeep, match="ZAKI_STATE"):
        require_writable(settings)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
