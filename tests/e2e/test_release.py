"""Changes of version on a real systemd, while people write: nothing is lost, and what is never ready goes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sqlite3
import subprocess
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from bot.cli.releasing import build_release
from bot.credentials import FrontKey, load_key
from bot.provisioner.openclaw import GatewayConfig, Owner, render_config
from bot.standins.instance import InstanceConfig, StandInInstance
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.standins.telegram.client import SimulatedPerson
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, Onboarding, User, UserStatus, Wanted, Wish
from infra.service import (
    ARCHIVE,
    UNINSTALL,
    Release,
    ServiceSpec,
    render_change_over,
    render_files,
    render_install,
    render_secrets,
    render_undo,
)
from infra.steps import render_program
from infra.units import FRONT
from tests.booted import Booted, booted
from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
NEWEST = str(ScriptDirectory(str(PROJECT / "bot/store/migrations")).get_current_head())
TOKEN = "123456789:AAtests-only-not-a-real-token-000000"
#: Far from the addresses that other tests take.
ADDRESSES = [f"127.3.0.{number}" for number in range(1, 4)]
#: Seconds that a new version gets; one that is never ready costs as much.
READY_WITHIN = 20
HOST = {
    "network": "zaki-test",
    "bridge": "lo",
    "subnet": "127.0.0.0/8",
    "gateway": "127.0.0.1",
    "docker_range": "127.255.0.0/16",
    "image": "sha256:" + "0" * 64,
    "runtime": "runc",
}
REVISION = '''"""For a test."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None


def upgrade() -> None:
    op.add_column("users", sa.Column({column!r}, sa.Integer(), nullable=True))
'''


@dataclass
class Checkout:
    """A copy of the project, for a release that differs from it."""

    path: Path

    def replace(self, name: str, old: str, new: str) -> None:
        file = self.path / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def revision(self, revision: str, before: str) -> None:
        text = REVISION.format(revision=revision, before=before, column=f"of_{revision.replace('.', '_')}")
        (self.path / "bot/store/migrations/versions" / f"{revision}_test.py").write_text(text)


def release(folder: Path, version: str, change: Callable[[Checkout], None] = lambda _checkout: None) -> Release:
    """A release of this checkout, changed."""
    checkout = Checkout(folder / version)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (checkout.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, checkout.path / name)
    checkout.replace("pyproject.toml", 'version = "0.1.0"', f'version = "{version}"')
    change(checkout)
    return Release.read(build_release(folder / f"{version}-built", checkout.path))


@dataclass
class Host:
    """A host whose Zaki is called by a simulated Telegram."""

    system: Booted
    telegram: str
    public: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    bridge_port: int = field(default_factory=free_port)

    def spec(self, given: Release) -> ServiceSpec:
        settings = {"TELEGRAM_API": self.telegram, "PUBLIC_URL": f"http://{self.public}", "POOL": "0"}
        settings["LISTEN"] = self.public
        return ServiceSpec(
            release=given,
            gateway=IPv4Address("127.0.0.1"),
            settings={f"ZAKI_{name}": value for name, value in settings.items()},
            listen=self.public,
            bridge_port=self.bridge_port,
            ready_within_s=READY_WITHIN,
        )

    async def up(self, given: Release) -> subprocess.CompletedProcess[str]:
        """The steps of the release and of the services, as a stack's `up` runs them."""
        spec = self.spec(given)
        archive = {ARCHIVE: (0o644, "root:root", b64encode(given.content).decode())}
        installed = await self._step("release", render_install(given), archive, "")
        assert installed.returncode == 0, installed.stderr
        sealed = await self._step("secrets", render_secrets(), {}, json.dumps({"zaki_telegram_token": TOKEN}))
        assert sealed.returncode == 0, sealed.stderr
        files = {path: (mode, "root:root", text) for path, (text, mode) in render_files(spec).items()}
        return await self._step("service", render_change_over(spec), files, "")

    async def down(self, given: Release) -> None:
        undo = render_undo(self.spec(given)) + UNINSTALL
        await asyncio.to_thread(self.system.run, "bash", "-euo", "pipefail", "-c", undo)

    def serves(self) -> str:
        return Path(self.system.run("readlink", "/opt/zaki/current").stdout.strip()).name

    async def _step(
        self, name: str, do: str, files: dict[str, tuple[int, str, str]], secret: str
    ) -> subprocess.CompletedProcess[str]:
        program = render_program(do, undo="", check="", files=files, secret=secret, provisional_s=None)
        self.system.write({f"/run/zaki-steps/{name}.sh": program})
        return await asyncio.to_thread(
            self.system.run, "bash", "-euo", "pipefail", f"/run/zaki-steps/{name}.sh", "do", name, "token", check=False
        )


@pytest.fixture
def system() -> Iterator[Booted]:
    with booted(Path(tempfile.mkdtemp(prefix="zaki-booted-", dir="/tmp"))) as system:
        system.write({"/etc/zaki/host.json": json.dumps(HOST)})
        yield system


@dataclass
class Crowd:
    """People who each write on as soon as they are answered."""

    people: SimulatorClient
    everybody: list[SimulatedPerson]
    sent: dict[int, list[str]] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """While the block runs; returns once everybody has every answer."""
        self._stop.clear()
        async with asyncio.TaskGroup() as group:
            for person in self.everybody:
                group.create_task(self._write(person))
            try:
                yield
            finally:
                self._stop.set()

    async def _write(self, person: SimulatedPerson) -> None:
        said = self.sent.setdefault(person.id, [])
        while not self._stop.is_set():
            text = f"number {len(said)}"
            said.append(text)
            await self._until_answered(person, text)

    async def _until_answered(self, person: SimulatedPerson, text: str) -> None:
        message = await self.people.say(person, text)
        await self.people.wait_for_reply(
            person, after=message.id, timeout=120, predicate=lambda reply: reply.text == f"You wrote: {text}"
        )

    async def unanswered_or_twice(self) -> dict[str, int]:
        """How often each message was answered, where that is not once."""
        wrong = {}
        for person in self.everybody:
            answers = Counter(message.text for message in await self.people.messages(person))
            for text in self.sent[person.id]:
                if (count := answers[f"You wrote: {text}"]) != 1:
                    wrong[f"{person.id}: {text}"] = count
        return wrong


@asynccontextmanager
async def crowd(host: Host, people: SimulatorClient) -> AsyncIterator[Crowd]:
    """People who have been here before, whose instances are awake; they are stand-ins that outlive every version."""
    state = host.system.state
    database = Database(f"sqlite+aiosqlite:///{state / 'db' / 'zaki.sqlite3'}")
    key = FrontKey(load_key(state / "keys" / "front.key", shared=True))
    everybody = [await people.new_user(first_name="Ada") for _ in ADDRESSES]
    instances = []
    async with database.write() as session:
        for number, (person, address) in enumerate(zip(everybody, ADDRESSES, strict=True)):
            user = User(
                telegram_id=person.id,
                first_name="Ada",
                status=UserStatus.ACTIVE,
                onboarding=Onboarding.DONE,
                created_at=now(),
            )
            session.add(user)
            await session.flush()
            session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
            instance = Instance(
                id=f"u-{number:010d}",
                user_id=user.id,
                plan="standard",
                address=address,
                image=HOST["image"],
                container=ContainerState.RUNNING,
                ready_at=now(),
                met_generation=1,
                created_at=now(),
            )
            session.add(instance)
            bridge = f"http://127.0.0.1:{host.bridge_port}"
            owner = Owner(person.id, call_name=None, timezone=None)
            config = GatewayConfig(owner, key.derive(instance.id, 1), "gateway-token", bridge)
            instances.append(StandInInstance(InstanceConfig.parse(render_config(config)), address).running())
    await database.close()
    async with AsyncExitStack() as running_instances:
        for instance_running in instances:
            await running_instances.enter_async_context(instance_running)
        yield Crowd(people, everybody)


def with_revisions(*revisions: str, ready: bool = True) -> Callable[[Checkout], None]:
    """A version with further revisions of the schema; one that is not ready says so, and serves all the same."""

    def change(checkout: Checkout) -> None:
        for before, revision in itertools.pairwise((NEWEST, *revisions)):
            checkout.revision(revision, before)
        if not ready:
            checkout.replace("bot/front/app.py", 'found["disk"] =', 'found["test"] = "broken"\n        found["disk"] =')

    return change


async def test_versions_change_while_people_write(system: Booted, tmp_path: Path) -> None:
    first = release(tmp_path, "0.1.0")
    second = release(tmp_path, "0.1.1", with_revisions("9001"))
    never = release(tmp_path, "0.1.2", with_revisions("9001", "9002", ready=False))
    for_good = release(tmp_path, "0.1.3", with_revisions("9001", "9002", "9003.2", ready=False))
    afterwards = release(tmp_path, "0.1.4", with_revisions("9001", "9002", "9003.2", "9004.2"))
    database, copies = system.state / "db" / "zaki.sqlite3", system.state / "copies"
    async with running(create_app(SimulatorConfig(token=TOKEN))) as telegram, SimulatorClient(telegram) as people:
        host = Host(system, telegram)
        done = await host.up(first)
        assert done.returncode == 0, done.stderr
        async with crowd(host, people) as everybody:
            async with everybody.writing():
                before = system.run("systemctl", "show", "--property=MainPID", "--value", FRONT).stdout
                done = await host.up(first)
                assert done.returncode == 0, done.stderr
                assert system.run("systemctl", "show", "--property=MainPID", "--value", FRONT).stdout == before
                # What the host's stack says is read at a start alone.
                system.write({"/etc/zaki/host.json": json.dumps(HOST | {"docker_range": "127.254.0.0/16"})})
                done = await host.up(first)
                assert done.returncode == 0, done.stderr
                assert system.run("systemctl", "show", "--property=MainPID", "--value", FRONT).stdout != before

                # As an `up` left it that went no further, long ago.
                (copies / f"before-{second.version}.sqlite3").write_text("old")
                done = await host.up(second)
                assert done.returncode == 0, done.stderr
                assert host.serves() == second.version
                assert revision_of(database) == "9001"
                assert revision_of(copies / f"before-{second.version}.sqlite3") == NEWEST

                done = await host.up(never)
                assert done.returncode == 1
                assert f"{second.version} serves again." in done.stderr
                assert "test: broken" in done.stderr
                assert host.serves() == second.version
                # What it added stays, and whoever wrote meanwhile is answered by the one before.
                assert revision_of(database) == "9002"
            assert await everybody.unanswered_or_twice() == {}
            assert sum(map(len, everybody.sent.values())) > 3 * len(ADDRESSES)

            async with everybody.writing():
                done = await host.up(for_good)
                assert done.returncode == 1
                assert f"before-{for_good.version}.sqlite3" in done.stderr
                assert host.serves() == for_good.version
                assert revision_of(copies / f"before-{for_good.version}.sqlite3") == "9002"
            assert await everybody.unanswered_or_twice() == {}
        await host.down(for_good)
        assert not system.active(FRONT)
        assert system.run("ls", "-A", "/opt").stdout.count("zaki") == 0
        assert revision_of(database) == "9003.2"

        # What people have outlived the services; a copy of it is made before it is changed.
        done = await host.up(afterwards)
        assert done.returncode == 0, done.stderr
        assert revision_of(database) == "9004.2"
        assert revision_of(copies / f"before-{afterwards.version}.sqlite3") == "9003.2"
        await host.down(afterwards)


def revision_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version")
    return str(revision)
