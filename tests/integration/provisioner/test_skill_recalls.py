"""An instance that has what was recalled: ended, emptied, and only then let near anybody; Docker is stood in for."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import select

from bot.cli.adoption import Foundling, adopt
from bot.credentials import FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner import waking
from bot.provisioner.app import Provisioner
from bot.provisioner.archive import Archive
from bot.provisioner.containers import ContainerError, Containers, FileInVolume, Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.egress import EgressSets
from bot.provisioner.lease import new_owner
from bot.provisioner.reconcile import Reconciler
from bot.provisioner.skills import folders
from bot.provisioner.sleep import WakeAdmission
from bot.provisioner.stackresults import StackOutputs
from bot.provisioner.stacks import StackManager
from bot.provisioner.work import InstanceBroken, InstanceStumbled
from bot.settings import Settings
from bot.skills import locks, recalls
from bot.skills.digests import tree_digest
from bot.skills.names import Reference, SkillName
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    AuditEntry,
    ContainerState,
    Instance,
    News,
    SkillOrigin,
    SkillState,
    SkillVerdict,
    SkillVersion,
    User,
    Wanted,
    Wish,
)
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec

ID = "u-aaaaaaaaaa"
TIDES = SkillName("samples", "tides")
FILES = {"SKILL.md": b"# Tides\n"}
HASHES = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}


@dataclass
class World:
    """A machine with one instance, whose gateway ends as soon as it is started."""

    state: ContainerState = ContainerState.NONE
    address: str | None = None
    #: What is in the volume, below the home folder.
    files: dict[str, bytes] = field(default_factory=lambda: {"ws/skills/tides/SKILL.md": FILES["SKILL.md"], "a": b""})
    #: And in its archive.
    archived: dict[str, bytes] = field(default_factory=dict)
    #: What was done, in order.
    done: list[str] = field(default_factory=list)
    fails: bool = False

    async def up(self, spec: InstanceSpec) -> StackOutputs:
        self.address, self.state = str(spec.address), ContainerState.CREATED
        return StackOutputs("c" * 64, spec.id, str(spec.address), spec.image, {"create": 3})

    async def addresses(self, _network: str, besides: str = "") -> set[str]:
        return set()

    async def observe(self, _instance_id: str) -> Observed | None:
        if self.state is ContainerState.NONE:
            return None
        return Observed(self.state, "sha256:0", self.address, 1, oom_killed=False)

    async def start(self, _instance_id: str, _pids: int) -> None:
        self.done.append("start" if self.state is not ContainerState.PAUSED else "thaw")
        self.state = ContainerState.EXITED

    async def stop(self, _instance_id: str) -> None:
        self.done.append("stop")
        self.state = ContainerState.EXITED

    async def end_frozen(self, _instance_id: str) -> None:
        self.done.append("end")
        self.state = ContainerState.EXITED

    async def export(self, _instance_id: str) -> AsyncGenerator[bytes, None]:
        assert self.state in (ContainerState.EXITED, ContainerState.CREATED)
        if self.fails:
            raise ContainerError("Docker is away.")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(f"node/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        yield buffer.getvalue()

    async def remove_paths(self, _instance_id: str, paths: Sequence[str]) -> None:
        self.done.append("remove")
        self.files = {
            name: content
            for name, content in self.files.items()
            if not any(name == path or name.startswith(f"{path}/") for path in paths)
        }

    async def put_files(self, _instance_id: str, files: list[FileInVolume]) -> None:
        self.files.update({file.path: file.content for file in files})

    async def read_file(self, _instance_id: str, path: str) -> bytes | None:
        return self.files.get(path)

    async def has_volume(self, _instance_id: str) -> bool:
        return True

    async def has_image(self, _image: str) -> bool:
        return True

    async def restore(self, _instance_id: str, _snapshot: str) -> None:
        """The archive's part."""
        self.done.append("restore")
        self.files |= self.archived

    async def latest(self, _instance_id: str) -> None:
        return None

    async def forget(self, _instance_id: str) -> None: ...

    async def ids(self) -> set[str]:
        return set()

    async def kill(self, _instance_id: str) -> None:
        self.done.append("kill")

    async def remove_helper(self, _instance_id: str) -> None: ...

    async def remove_orphan(self, _instance_id: str) -> None:
        self.files, self.state = {}, ContainerState.NONE

    async def destroy(self, _instance_id: str) -> None:
        self.state = ContainerState.NONE


def nobody_listens(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(waking, "_OBSERVE_EVERY", 0.05)
    return World()


@pytest.fixture
async def reconciler(
    world: World, database: Database, settings: Settings, host_facts: HostFacts
) -> AsyncIterator[Reconciler]:
    """What looks after somebody's instance, which was declared and ended once."""
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(Instance(id=ID, user_id=user.id, plan="standard", image="sha256:" + "0" * 64, created_at=now()))
    network, gateway = IPv4Network("10.9.0.0/24"), IPv4Address("10.9.0.1")
    host = replace(host_facts, subnet=network, gateway=gateway, docker_range=IPv4Network("10.9.0.128/25"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(nobody_listens)) as http:
        context = ProvisionerContext(
            settings=settings,
            database=database,
            nudge=Nudge(),
            host=host,
            front_key=FrontKey(b"f" * 32),
            gateway_key=GatewayKey(b"g" * 32),
            containers=cast(Containers, world),
            stacks=cast(StackManager, world),
            archive=cast(Archive, world),
            http=http,
            egress=EgressSets(None),
        )

        async def nobody(_besides: str) -> int:
            return 0

        async def nothing(*_arguments: object) -> None: ...

        found = Reconciler(context, new_owner(), WakeAdmission(nobody, nothing, nothing), asyncio.Semaphore(4))
        with pytest.raises(InstanceStumbled):
            while True:
                await found.reconcile(ID)
        world.done.clear()
        yield found


async def stands(database: Database, world: World, state: ContainerState, *, rests: bool) -> None:
    """It is as it would be, with the skill, which is recalled now."""
    world.state = state
    up = state is ContainerState.RUNNING
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        instance.container, instance.repairs, instance.met_generation = state, 0, 1
        instance.ready_at = now() if up else None
        instance.resting_since = now() - 3600 if rests else None
        instance.fenced_at = now() if state is ContainerState.PAUSED else None
        await locks.note(session, ID, Reference(TIDES, "1.0.0"), tree_digest(HASHES), SkillOrigin.DOWNLOAD)
    async with database.write() as session:
        await recalls.recall(session, TIDES, None, "It steals.", "verdict")


async def is_elsewhere(database: Database, *, locked: bool = True, **columns: object) -> None:
    """Its files come from where the database does not know them; what they have was recalled, `locked`: it is known."""
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        wish = await session.get_one(Wish, instance.user_id)
        wish.generation += 1
        for name, value in {"config_hash": None, "repairs": 0, **columns}.items():
            setattr(instance, name, value)
        row: dict[str, Any] = {"verdict": SkillVerdict.PASSED, "reasons": [], "needs": {}, "upstream": {}}
        files = [{"path": path, "sha256": sha256} for path, sha256 in HASHES.items()]
        key = {"owner": TIDES.owner, "slug": TIDES.slug, "version": "1.0.0"}
        digest = tree_digest(HASHES)
        session.add(SkillVersion(**key, **row, digest=digest, files=files, vetted_at=now(), checked_at=now()))
        if locked:
            await locks.note(session, ID, Reference(TIDES, "1.0.0"), digest, SkillOrigin.DOWNLOAD)
    async with database.write() as session:
        await recalls.recall(session, TIDES, "1.0.0", "It steals.")


@pytest.mark.parametrize("locked", [True, False])
async def test_an_archived_one_loses_it_between_its_files_return_and_its_start(
    reconciler: Reconciler, world: World, database: Database, locked: bool
) -> None:
    world.state, world.files, world.archived = ContainerState.NONE, {}, world.files
    archived = {"archive": "s", "container": ContainerState.NONE, "declared_hash": None, "resting_since": now()}
    # A backup may be older than the database, or have been made while the recall was under way.
    await is_elsewhere(database, locked=locked, **archived)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
    assert world.done[:3] == ["restore", "remove", "start"]
    assert "ws/skills/tides/SKILL.md" not in world.files
    assert "a" in world.files
    assert await is_gone(database)


@pytest.mark.parametrize("state", [ContainerState.RUNNING, ContainerState.PAUSED])
async def test_one_that_was_adopted_is_looked_through_before_it_goes_on(
    reconciler: Reconciler, world: World, database: Database, state: ContainerState
) -> None:
    world.state = state
    await is_elsewhere(database, locked=False)
    async with database.write() as session:
        await session.delete(await session.get_one(Instance, ID))
    observed = await world.observe(ID)
    await adopt(reconciler._context, Foundling(ID, observed, None, None), 7)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
    assert world.done[:3] == ["end", "remove", "start"]
    assert await is_gone(database)


async def test_one_that_is_too_large_to_look_through_starts_unless_it_is_known_to_have_it(
    reconciler: Reconciler, world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MOST_ENTRIES", 1)
    await is_elsewhere(database, locked=False)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
    assert world.done[0] == "start"
    world.done.clear()
    async with database.write() as session:
        await locks.note(session, ID, Reference(TIDES, "1.0.0"), tree_digest(HASHES), SkillOrigin.DOWNLOAD)
    with pytest.raises(InstanceBroken, match="cannot be looked through"):
        await reconciler.reconcile(ID)
    assert world.done == []


async def test_where_it_only_might_have_been_nobody_is_told(
    reconciler: Reconciler, world: World, database: Database
) -> None:
    world.files = {"a": b""}
    await is_elsewhere(database, locked=False)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
    assert world.done[0] == "start"
    async with database.read() as session:
        assert list(await session.scalars(select(Announcement))) == []
        assert list(await session.scalars(select(SkillState))) == []


async def test_a_member_of_the_pool_goes_as_a_whole(reconciler: Reconciler, world: World, database: Database) -> None:
    await stands(database, world, ContainerState.PAUSED, rests=True)
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        instance.user_id, instance.warmed_at = None, now()
    await reconciler.reconcile(ID)
    assert world.done == ["kill"]
    assert world.files == {}
    async with database.read() as session:
        assert await session.get(Instance, ID) is None
        assert await locks.to_remove(session, ID) == []


async def test_their_own_files_beside_it_stay(reconciler: Reconciler, world: World, database: Database) -> None:
    world.files = {".openclaw/workspace/SKILL.md": FILES["SKILL.md"], ".openclaw/workspace/diary.md": b"Mine."}
    # What lies in their workspace is the version's file, and all that is theirs.
    await is_elsewhere(database)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
        await reconciler.reconcile(ID)
    assert ".openclaw/workspace/SKILL.md" not in world.files
    assert world.files[".openclaw/workspace/diary.md"] == b"Mine."
    assert await is_gone(database)


@pytest.mark.parametrize(
    ("state", "looks"),
    [(ContainerState.RUNNING, True), (ContainerState.PAUSED, True), (ContainerState.EXITED, False)],
)
async def test_one_that_failed_and_runs_all_the_same_is_ended(
    reconciler: Reconciler,
    world: World,
    database: Database,
    settings: Settings,
    host_facts: HostFacts,
    state: ContainerState,
    looks: bool,
) -> None:
    await stands(database, world, state, rests=False)
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        instance.failure, instance.ready_at = "It did not answer.", None
    provisioner = Provisioner(settings, database, Nudge(), host_facts, Toolchain.from_pins())
    assert await provisioner._recalled() == ([ID] if looks else [])
    if looks:
        await reconciler.reconcile(ID)
        assert world.done == ["end", "remove"]
        assert await is_gone(database)
        assert await provisioner._recalled() == []


async def is_gone(database: Database) -> bool:
    async with database.read() as session:
        news = list(await session.scalars(select(Announcement.news)))
        audited = list(await session.scalars(select(AuditEntry.action).where(AuditEntry.instance_id == ID)))
        held = await locks.of_instance(session, ID)
    assert (News.SKILL_RECALLED in news) == ("skill.gone" in audited) == (not held)
    return not held


@pytest.mark.parametrize("state", [ContainerState.PAUSED, ContainerState.EXITED])
async def test_one_at_rest_loses_it_without_running(
    reconciler: Reconciler, world: World, database: Database, state: ContainerState
) -> None:
    await stands(database, world, state, rests=True)
    await reconciler.reconcile(ID)
    assert world.done == (["end", "remove"] if state is ContainerState.PAUSED else ["remove"])
    assert "ws/skills/tides/SKILL.md" not in world.files
    assert await is_gone(database)
    async with database.read() as session:
        instance = await session.get_one(Instance, ID)
        owed = (await session.scalars(select(SkillState))).one()
    # What a backup copied before is not what it has now.
    assert instance.resting_since is not None
    assert instance.resting_since > now() - 60
    assert (instance.container, instance.fenced_at) == (ContainerState.EXITED, None)
    # It begins with a new session when it is needed.
    assert (owed.state, owed.version, owed.offered) == ("removing", None, "1.0.0")


async def test_one_that_is_awake_is_ended_first_and_started_anew(
    reconciler: Reconciler, world: World, database: Database
) -> None:
    await stands(database, world, ContainerState.RUNNING, rests=False)
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
        await reconciler.reconcile(ID)
    assert world.done[:3] == ["end", "remove", "start"]
    assert await is_gone(database)


async def test_one_that_cannot_be_looked_through_is_not_started(
    reconciler: Reconciler, world: World, database: Database
) -> None:
    await stands(database, world, ContainerState.PAUSED, rests=True)
    world.fails = True
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        wish = await session.get_one(Wish, instance.user_id)
        wish.generation += 1
    for _ in range(2):
        with pytest.raises(ContainerError):
            await reconciler.reconcile(ID)
    assert world.done == ["end"]
    assert not await is_gone(database)
    async with database.read() as session:
        assert (await session.get_one(Instance, ID)).ready_at is None
    world.fails = False
    with pytest.raises(InstanceStumbled):
        await reconciler.reconcile(ID)
        await reconciler.reconcile(ID)
    assert world.done[:3] == ["end", "remove", "start"]
    assert await is_gone(database)
