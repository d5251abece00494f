"""Skills in a real container: installed by the real client through the mirror, updated, put back, recalled."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from bot.credentials import ArchiveKey, FrontKey, GatewayKey, new_instance_id
from bot.front.context import FrontContext
from bot.front.skills import Mirror, router
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.egress import EgressSets
from bot.provisioner.skills import Act, Installing, Recalling, steps
from bot.provisioner.stacks import StackManager
from bot.provisioner.work import Work
from bot.settings import load_settings
from bot.skills import locks, recalls
from bot.skills.names import Reference, SkillName
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    AuditEntry,
    ContainerState,
    Instance,
    SkillPolicy,
    SkillSource,
    SkillState,
    SkillWish,
    User,
    Wanted,
    Wish,
)
from bot.toolchain import Toolchain
from infra.spec import TMPFS
from tests.e2e.conftest import Docker, image_that_sleeps

NOTES = SkillName("samples", "meeting-notes")
FOLDER = "/home/node/.openclaw/workspace/skills/meeting-notes"


@dataclass
class Tenant:
    """An instance whose gateway only sleeps, its person, and what Zaki has for it."""

    docker: Docker
    id: str
    context: ProvisionerContext
    mirror: Mirror
    registry: Registry
    #: What its gateway was told.
    told: list[dict[str, Any]] = field(default_factory=list)

    async def wish(self, **values: Any) -> None:
        """Say what of the skill is wanted."""
        async with self.context.database.write() as session:
            user = (await session.scalars(select(User))).one()
            key = {"user_id": user.id, "owner": NOTES.owner, "slug": NOTES.slug}
            wish = SkillWish(**key, source=SkillSource.PERSON, asked_at=now(), **values)
            await session.merge(wish)

    async def work(self) -> Work:
        """The instance as it is now."""
        query = select(Instance, User, Wish).join(User, User.id == Instance.user_id).join(Wish, Wish.user_id == User.id)
        async with self.context.database.read() as session:
            instance, user, wish = (await session.execute(query)).one()
        return Work(self.context, instance, user, wish)

    async def settle(self) -> list[Act]:
        """Carry out what there is to do; what that was."""
        work = await self.work()
        async with self.context.database.read() as session:
            found = await steps(session, work.instance, ())
        await Installing(self.context).carry_out(work, found)
        return [step.act for step in found]

    async def state(self) -> SkillState | None:
        """What is said of the skill."""
        async with self.context.database.read() as session:
            return await session.get(SkillState, (self.id, NOTES.owner, NOTES.slug))

    async def held(self) -> list[str]:
        """The versions that it is known to have."""
        async with self.context.database.read() as session:
            return [lock.version for lock in await locks.of_instance(session, self.id)]

    async def news(self) -> list[str]:
        """Of what kinds its person is told."""
        async with self.context.database.read() as session:
            return list(await session.scalars(select(Announcement.news).order_by(Announcement.id)))

    def inside(self, script: str) -> str:
        """Run a line as its assistant."""
        return self.docker("exec", "--user", "1000:1000", self.id, "sh", "-c", script)

    def has(self, version: str) -> bool:
        """Whether that version's advice is what OpenClaw would read."""
        return f"Version {version} of the advice." in self.inside(f"cat {FOLDER}/SKILL.md")


@pytest.fixture
async def tenant(docker: Docker, tmp_path: Path) -> AsyncIterator[Tenant]:
    """One on Docker's own bridge, at whose gateway the mirror is."""
    instance_id = new_instance_id()
    label = f"zaki.instance={instance_id}"
    async with AsyncExitStack() as exits:
        image = exits.enter_context(image_that_sleeps(docker, Toolchain.from_pins().image_tag))
        docker("volume", "create", "--label", label, instance_id)
        exits.callback(docker, "volume", "rm", "-f", instance_id)
        tmpfs = [f"--tmpfs={path}:{options}" for path, options in TMPFS.items()]
        limits = ("--memory", "1g", "--memory-swap", "2g", "--read-only", *tmpfs, "--cap-drop", "ALL")
        user = ("--user", "1000:1000", "--volume", f"{instance_id}:/home/node", "--label", label, "--init")
        docker("create", "--name", instance_id, *limits, *user, image)
        exits.callback(docker, "rm", "-f", instance_id)
        docker("start", instance_id)
        bridge = (docker.inspect("container", instance_id) or {})["NetworkSettings"]["Networks"]["bridge"]
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'zaki.sqlite3'}")
        exits.push_async_callback(database.close)
        await database.migrate()
        await add_person(database, instance_id, bridge["IPAddress"])
        registry = Registry(samples())
        upstream = await exits.enter_async_context(running(registry_app(registry)))
        settings = load_settings(_env_file=None, state=tmp_path / "state", skills_url=upstream, telegram_token="1:t")
        client = await exits.enter_async_context(httpx.AsyncClient(trust_env=False))
        mirror = Mirror(settings, database, client)
        exits.push_async_callback(mirror.close)
        host = host_at(bridge["Gateway"])
        front = FrontContext(settings, database, Nudge(), host, FrontKey(b"f" * 32), client)
        app = FastAPI()
        app.include_router(router(front, mirror))
        listens = (await exits.enter_async_context(running(app, bridge["Gateway"]))).removeprefix("http://")
        containers = await exits.enter_async_context(Containers.connect())
        found = Tenant(docker, instance_id, cast(ProvisionerContext, None), mirror, registry)
        gateway = httpx.AsyncClient(transport=httpx.MockTransport(listener(found.told)))
        found.context = ProvisionerContext(
            settings=settings.model_copy(update={"instances_listen": listens}),
            database=database,
            nudge=Nudge(),
            host=host,
            front_key=FrontKey(b"f" * 32),
            gateway_key=GatewayKey(b"g" * 32),
            containers=containers,
            stacks=cast(StackManager, None),
            archive=Archive(tmp_path / "state", ArchiveKey(b"a" * 32), containers),
            http=await exits.enter_async_context(gateway),
            egress=EgressSets(None),
        )
        yield found


def host_at(address: str) -> HostFacts:
    subnet = IPv4Network(f"{address}/16", strict=False)
    return HostFacts(
        network="bridge",
        bridge="docker0",
        subnet=subnet,
        gateway=IPv4Address(address),
        docker_range=subnet,
        image="sha256:" + "0" * 64,
        runtime="runc",
    )


def listener(told: list[dict[str, Any]]) -> Callable[[httpx.Request], httpx.Response]:
    def take(request: httpx.Request) -> httpx.Response:
        told.append(json.loads(request.content))
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    return take


async def add_person(database: Database, instance_id: str, address: str) -> None:
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(
            Instance(
                id=instance_id,
                user_id=user.id,
                plan="standard",
                image="sha256:" + "0" * 64,
                address=address,
                container=ContainerState.RUNNING,
                ready_at=now(),
                created_at=now(),
            )
        )


async def vetted(tenant: Tenant, version: str) -> None:
    await tenant.mirror.version(Reference(NOTES, version))


async def test_a_skill_comes_is_updated_and_goes(tenant: Tenant) -> None:
    await tenant.wish(policy=SkillPolicy.PIN, version="1.0.0")
    assert await tenant.settle() == [Act.INSTALL]
    assert (await tenant.held(), tenant.has("1.0.0")) == (["1.0.0"], True)
    assert await tenant.settle() == []
    assert await tenant.news() == ["skill.installed"]

    # A newer one of the same kind comes, one of another kind does not.
    await vetted(tenant, "1.0.1")
    await vetted(tenant, "2.0.0")
    await tenant.wish(policy=SkillPolicy.PATCH)
    assert await tenant.settle() == [Act.UPDATE]
    assert (await tenant.held(), tenant.has("1.0.1")) == (["1.0.1"], True)

    # What cannot be installed leaves what there was.
    async with tenant.context.database.write() as session:
        await recalls.recall(session, NOTES, "2.0.0", "It is no good.")
    await tenant.wish(policy=SkillPolicy.PIN, version="2.0.0")
    assert await tenant.settle() == [Act.UPDATE]
    state = await tenant.state()
    assert state is not None
    assert (state.state, state.version, state.offered) == ("failed", "1.0.1", "2.0.0")
    assert tenant.has("1.0.1")
    assert await tenant.settle() == []

    # A killed update left the version before aside, and half of another in its place.
    tenant.inside(f"cp -a {FOLDER} /home/node/.zaki/skills/ && rm {FOLDER}/SKILL.md && echo half > {FOLDER}/half")
    await tenant.wish(policy=SkillPolicy.PIN, version="1.1.0")
    assert await tenant.settle() == [Act.UPDATE]
    assert (await tenant.held(), tenant.has("1.1.0")) == (["1.1.0"], True)
    assert tenant.inside("ls -A /home/node/.zaki/skills") == ""

    # What the person's assistant changed is not written over.
    tenant.inside(f"echo mine >> {FOLDER}/SKILL.md")
    await tenant.wish(policy=SkillPolicy.PIN, version="1.0.0")
    assert await tenant.settle() == [Act.UPDATE]
    assert tenant.inside(f"tail -n 1 {FOLDER}/SKILL.md") == "mine"
    assert (await tenant.news())[-1] == "skill.failed"

    # It goes from wherever OpenClaw would take it, and what only has its name stays.
    tenant.inside(f"mkdir -p /home/node/.openclaw/skills && cp -r {FOLDER} /home/node/.openclaw/skills/again")
    own = "/home/node/.agents/skills/meeting-notes"
    tenant.inside(f"mkdir -p {own} && echo mine > {own}/SKILL.md")
    await tenant.wish(wanted="absent")
    assert await tenant.settle() == [Act.REMOVE]
    assert (await tenant.held(), await tenant.state()) == ([], None)
    assert tenant.inside("ls /home/node/.openclaw/workspace/skills /home/node/.openclaw/skills").split() == [
        "/home/node/.openclaw/skills:",
        "/home/node/.openclaw/workspace/skills:",
    ]
    assert tenant.inside(f"cat {own}/SKILL.md") == "mine"
    assert "meeting-notes" not in tenant.inside("cat /home/node/.openclaw/workspace/.clawhub/lock.json")


@pytest.mark.parametrize("asleep", [True, False])
async def test_what_was_recalled_goes_with_its_copies_and_nothing_runs_again(tenant: Tenant, asleep: bool) -> None:
    await tenant.wish(policy=SkillPolicy.PIN, version="1.0.0")
    await tenant.settle()
    for line in (
        "mkdir -p /home/node/.agents/skills /home/node/.openclaw/workspace/skills/mine",
        f"cp -r {FOLDER} /home/node/.agents/skills/other-name",
        # Among the person's own files, in a folder that nobody may write to.
        f"mkdir /home/node/papers && cp {FOLDER}/*.* /home/node/papers && echo mine > /home/node/papers/diary",
        "chmod 500 /home/node/papers",
        "echo '---\nname: mine\n---' > /home/node/.openclaw/workspace/skills/mine/SKILL.md",
        # Using it leaves traces, and modes that keep it from being removed.
        f"mkdir {FOLDER}/cache && echo used > {FOLDER}/cache/used && chmod 500 {FOLDER}/cache",
        "(while echo alive > /home/node/alive; do sleep 0.01; done) >/dev/null 2>&1 &",
    ):
        tenant.inside(line)
    if asleep:
        await tenant.context.containers.pause(tenant.id)
        # Whoever goes on writes it again.
        before = (await tenant.context.containers.read_file(tenant.id, "alive")) or b""
        assert before in (b"alive\n", b"")
    async with tenant.context.database.write() as session:
        await recalls.recall(session, NOTES, "1.0.0", "It steals.", "verdict")
    work = await tenant.work()
    observed = await tenant.context.containers.observe(tenant.id)
    await Recalling(tenant.context).carry_out(work, observed)

    found = tenant.docker.inspect("container", tenant.id)
    assert found is not None
    assert found["State"]["Status"] == "exited"
    left = tenant.docker("run", "--rm", "-v", f"{tenant.id}:/v", found["Image"], "find", "/v", "-name", "SKILL.md")
    assert left.split() == ["/v/.openclaw/workspace/skills/mine/SKILL.md"]
    assert await tenant.held() == []
    assert await tenant.context.containers.read_file(tenant.id, "papers/diary") == b"mine\n"
    assert (await tenant.news())[-1] == "skill.recalled"
    async with tenant.context.database.read() as session:
        gone = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "skill.gone"))).one()
        instance = await session.get_one(Instance, tenant.id)
    assert "from 3 folders" in gone.detail
    assert (instance.container, instance.ready_at, instance.fenced_at) == ("exited", None, None)

    # Its session is a new one before anything else is delivered, and only once.
    work = replace(work, instance=instance)
    await Recalling(tenant.context).begin_anew(work)
    await Recalling(tenant.context).begin_anew(work)
    assert [update["message"]["text"] for update in tenant.told] == ["/new"]
