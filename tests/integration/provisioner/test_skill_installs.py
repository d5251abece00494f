"""Skills brought into an instance that is up: by the real lines of shell in a folder, with a client that breaks off."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import tarfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from bot.credentials import FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import ContainerError, Containers, Executed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.egress import EgressSets
from bot.provisioner.skills import Act, Installing, folders, installing, steps
from bot.provisioner.skills.folders import SKILLS
from bot.provisioner.stacks import StackManager
from bot.provisioner.work import Work
from bot.settings import Settings
from bot.skills import locks, recalls, wishes
from bot.skills.digests import tree_digest
from bot.skills.names import Reference, SkillName
from bot.skills.sets import Recommended
from bot.store import Database, now
from bot.store.tables import (
    Instance,
    SkillLock,
    SkillOrigin,
    SkillPolicy,
    SkillSource,
    SkillState,
    SkillVerdict,
    SkillVersion,
    User,
    Wanted,
    Wish,
)

ID = "u-aaaaaaaaaa"
TIDES = SkillName("samples", "tides-of-this-test")


def content(version: str) -> dict[str, bytes]:
    return {"SKILL.md": f"# Tides {version}\n".encode(), "tides.csv": b"high,low\n"}


@dataclass
class Machine:
    """An instance's home folder, in which commands run until Docker breaks off."""

    home: Path
    #: How many files of a version the client writes before it ends, and what then comes of the command.
    writes: int = 2
    breaks_off: bool = False
    #: Whether Docker runs nothing more after that.
    stays_away: bool = False
    away: bool = False
    ran: list[str] = field(default_factory=list)

    async def read_folder(self, _instance_id: str, path: str) -> AsyncGenerator[bytes, None]:
        folder = self.home / path
        if folder.is_dir():
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                tar.add(folder, folder.name)
            yield buffer.getvalue()

    async def execute(
        self, _instance_id: str, command: Sequence[str], _environment: Mapping[str, str], _within: float
    ) -> Executed:
        if self.away:
            raise ContainerError("Docker is away.")
        if command[0] == "/bin/sh":
            process = await asyncio.create_subprocess_exec(*command)
            return Executed(await process.wait(), "")
        assert command[3] == "install"
        version = command[command.index("--version") + 1]
        self.ran.append(version)
        self.put(version, content(version), self.writes)
        if self.breaks_off:
            self.away = self.stays_away
            raise ContainerError("Docker broke off.")
        return Executed(0 if self.writes == 2 else 1, "It does not go on.")

    def put(self, version: str, files: Mapping[str, bytes], count: int = 9) -> None:
        """What the client does: the old folder goes, the new one comes file by file."""
        folder = self.home / SKILLS / TIDES.slug
        shutil.rmtree(folder, ignore_errors=True)
        (folder / ".clawhub").mkdir(parents=True)
        note = f'{{"slug": "{TIDES.slug}", "ownerHandle": "samples", "installedVersion": "{version}"}}'
        (folder / ".clawhub" / "origin.json").write_text(note)
        for name, each in list(files.items())[:count]:
            (folder / name).write_bytes(each)

    @property
    def advice(self) -> str:
        """What OpenClaw would read."""
        return (self.home / SKILLS / TIDES.slug / "SKILL.md").read_text()


@dataclass
class Tenant:
    """An instance with a person, and what it should have."""

    context: ProvisionerContext
    plan: tuple[Recommended, ...] = ()

    async def settle(self) -> list[tuple[Act, str | None]]:
        """Carry out what there is to do; what that was."""
        query = select(Instance, User, Wish).join(User, User.id == Instance.user_id).join(Wish, Wish.user_id == User.id)
        async with self.context.database.read() as session:
            instance, user, wish = (await session.execute(query)).one()
            found = await steps(session, instance, self.plan)
        await Installing(self.context).carry_out(Work(self.context, instance, user, wish), found)
        return [(step.act, step.version) for step in found]

    async def state(self) -> tuple[str, str | None, str | None]:
        """What is said of the skill: status, version, and which other version that is about."""
        async with self.context.database.read() as session:
            state = (await session.scalars(select(SkillState))).one()
        return state.state, state.version, state.offered

    async def later(self) -> None:
        """An hour goes by."""
        async with self.context.database.write() as session:
            await session.execute(update(SkillState).values(updated_at=SkillState.updated_at - 3600))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(installing, "HOME", str(tmp_path / "home"))
    return Machine(tmp_path / "home")


@pytest.fixture
async def tenant(machine: Machine, database: Database, settings: Settings, host_facts: HostFacts) -> Tenant:
    """One that has version 1.0.0, of which there are newer ones."""
    context = ProvisionerContext(
        settings=settings,
        database=database,
        nudge=Nudge(),
        host=host_facts,
        front_key=FrontKey(b"f" * 32),
        gateway_key=GatewayKey(b"g" * 32),
        containers=cast(Containers, machine),
        stacks=cast(StackManager, None),
        archive=cast(Archive, None),
        http=cast(Any, None),
        egress=EgressSets(None),
    )
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(Instance(id=ID, user_id=user.id, plan="standard", image="sha256:0", created_at=now()))
        for version, needs in (("1.0.0", {}), ("1.0.1", {}), ("2.0.0", {"bins": ["curl"]})):
            hashes = {path: hashlib.sha256(each).hexdigest() for path, each in content(version).items()}
            row: dict[str, Any] = {"verdict": SkillVerdict.PASSED, "reasons": [], "needs": needs, "upstream": {}}
            row |= {"files": [{"path": path, "sha256": sha256} for path, sha256 in hashes.items()]}
            row |= {"owner": TIDES.owner, "slug": TIDES.slug, "version": version, "digest": tree_digest(hashes)}
            session.add(SkillVersion(**row, vetted_at=now(), checked_at=now()))
            if version == "1.0.0":
                await locks.settle(session, ID, Reference(TIDES, version), row["digest"])
    machine.put("1.0.0", content("1.0.0"))
    return Tenant(context)


async def wants(tenant: Tenant, policy: SkillPolicy = SkillPolicy.PATCH) -> None:
    async with tenant.context.database.write() as session:
        user = (await session.scalars(select(User))).one()
        await wishes.want(session, user.id, TIDES, SkillSource.PERSON, policy=policy)


async def test_half_of_a_new_version_makes_place_for_the_one_before(tenant: Tenant, machine: Machine) -> None:
    await wants(tenant)
    machine.writes = 1
    assert await tenant.settle() == [(Act.UPDATE, "1.0.1")]
    assert machine.advice == "# Tides 1.0.0\n"
    assert await tenant.state() == ("failed", "1.0.0", "1.0.1")
    assert await tenant.settle() == []


async def test_it_does_too_where_docker_breaks_off_meanwhile(tenant: Tenant, machine: Machine) -> None:
    await wants(tenant)
    machine.writes, machine.breaks_off = 1, True
    assert await tenant.settle() == [(Act.UPDATE, "1.0.1")]
    assert machine.advice == "# Tides 1.0.0\n"
    assert await tenant.state() == ("failed", "1.0.0", "1.0.1")


async def test_where_docker_stays_away_the_next_look_puts_it_back(tenant: Tenant, machine: Machine) -> None:
    await wants(tenant)
    machine.writes, machine.breaks_off, machine.stays_away = 1, True, True
    await tenant.settle()
    assert machine.advice == "# Tides 1.0.1\n"
    assert await tenant.state() == ("installing", "1.0.0", "1.0.1")
    # It may fall asleep meanwhile.
    assert await tenant.settle() == []
    await tenant.later()
    machine.away = machine.breaks_off = False
    assert await tenant.settle() == [(Act.UPDATE, "1.0.1")]
    assert machine.advice == "# Tides 1.0.0\n"
    assert await tenant.state() == ("failed", "1.0.0", "1.0.1")


async def test_what_the_assistant_heaped_up_aside_keeps_nothing_from_being_done(
    tenant: Tenant, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap = machine.home / ".zaki" / "skills" / "heap"
    heap.mkdir(parents=True)
    (heap / "zeros").write_bytes(bytes(4096))
    monkeypatch.setattr(folders, "MOST_BYTES", 2048)
    await wants(tenant)
    assert await tenant.settle() == [(Act.UPDATE, "1.0.1")]
    assert await tenant.state() == ("installed", "1.0.1", None)
    assert await tenant.settle() == []


async def test_what_somebody_wrote_themselves_is_not_removed(tenant: Tenant, machine: Machine) -> None:
    shutil.rmtree(machine.home / SKILLS)
    own = machine.home / SKILLS / TIDES.slug
    own.mkdir(parents=True)
    (own / "SKILL.md").write_text("Mine.")
    async with tenant.context.database.write() as session:
        user = (await session.scalars(select(User))).one()
        await wishes.unwant(session, user.id, TIDES, SkillSource.PERSON)
        other = Reference(TIDES, "2.0.0")
        # The assistant fetched this one for itself, wherever it put it.
        await locks.note(session, ID, other, "sha256:0", SkillOrigin.DOWNLOAD)
    assert await tenant.settle() == [(Act.REMOVE, "1.0.0")]
    assert machine.advice == "Mine."
    assert await tenant.settle() == []
    async with tenant.context.database.write() as session:
        await recalls.recall(session, TIDES, None, "It steals.")
    async with tenant.context.database.read() as session:
        kept = list(await session.scalars(select(SkillLock)))
    assert [(lock.version, lock.remove_since is not None) for lock in kept] == [("2.0.0", True)]


@pytest.mark.parametrize("policy", [SkillPolicy.LATEST, SkillPolicy.PIN])
async def test_who_agrees_to_their_plans_newer_version_gets_it_and_keeps_the_plan(
    tenant: Tenant, machine: Machine, policy: SkillPolicy
) -> None:
    tenant.plan = (Recommended(TIDES, "2.0.0" if policy is SkillPolicy.PIN else None, policy),)
    assert await tenant.settle() == [(Act.ASK, "2.0.0")]
    assert machine.ran == []
    async with tenant.context.database.write() as session:
        user = (await session.scalars(select(User))).one()
        await wishes.approve(session, user.id, TIDES, "2.0.0")
    assert await tenant.settle() == [(Act.UPDATE, "2.0.0")]
    assert machine.advice == "# Tides 2.0.0\n"
    assert await tenant.state() == ("installed", "2.0.0", None)
    # The operator goes back to the one before.
    tenant.plan = (Recommended(TIDES, "1.0.1", SkillPolicy.PIN),)
    assert await tenant.settle() == [(Act.UPDATE, "1.0.1")]
