"""A command beside the service does what the operator asks for, and what comes after it is the service's to decide."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import select

from bot.credentials import ArchiveKey, FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers, FileInVolume, Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Action, Request
from bot.provisioner.lease import new_owner
from bot.provisioner.reconcile import Reconciler, Refused
from bot.provisioner.sleep import WakeAdmission
from bot.provisioner.stackresults import StackOutputs
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, Decision, Instance, TimelineEntry, User, Wanted, Wish
from infra.spec import InstanceSpec

ID = "u-aaaaaaaaaa"
ADDRESS = "10.9.0.2"
#: What the running service is told, and what the command's own environment says.
SERVICES_IDLE, COMMANDS_IDLE = 60.0, 1800.0


@dataclass
class World:
    """A machine with one instance, whose gateway does what it is told."""

    state: ContainerState = ContainerState.RUNNING
    busy: bool = False
    files: dict[str, bytes] = field(default_factory=dict)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """The gateway."""
        if request.method == "GET":
            body: dict[str, Any] = {"ready": True}
        else:
            payload: dict[str, Any] = {"jobs": [], "hash": "h", "status": "ready", "suspensionId": "s-1"}
            if self.busy:
                payload |= {"status": "busy", "reason": "a turn"}
            body = {"ok": True, "payload": payload}
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(body).encode()))

    async def up(self, spec: InstanceSpec) -> StackOutputs:
        return StackOutputs("c" * 64, spec.id, str(spec.address), spec.image, {})

    async def addresses(self, _network: str, besides: str = "") -> set[str]:
        return set()

    async def observe(self, _instance_id: str) -> Observed | None:
        return Observed(self.state, "sha256:0", ADDRESS, 0, False)

    async def start(self, _instance_id: str, _pids: int) -> None:
        self.state = ContainerState.RUNNING

    async def stop(self, _instance_id: str) -> None:
        self.state = ContainerState.EXITED

    async def pause(self, _instance_id: str) -> None:
        self.state = ContainerState.PAUSED

    async def process(self, _instance_id: str) -> None: ...

    async def put_files(self, _instance_id: str, files: list[FileInVolume]) -> None:
        self.files.update({file.path: file.content for file in files})

    async def read_file(self, _instance_id: str, path: str) -> bytes | None:
        return self.files.get(path)

    async def has_volume(self, _instance_id: str) -> bool:
        return True

    async def has_image(self, _image: str) -> bool:
        return True


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def reconciler(
    world: World, database: Database, make_settings: Callable[..., Settings], host_facts: HostFacts
) -> AsyncIterator[Callable[[float], Reconciler]]:
    """A process's reconciler of Ada's instance, by the idle time that its settings say."""
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now(), last_message_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(
            Instance(
                id=ID,
                user_id=user.id,
                plan="standard",
                image="sha256:" + "0" * 64,
                address=ADDRESS,
                container=ContainerState.RUNNING,
                ready_at=now(),
                met_generation=1,
                created_at=now(),
            )
        )
    host = HostFacts(
        **{
            **vars(host_facts),
            "subnet": IPv4Network("10.9.0.0/24"),
            "gateway": IPv4Address("10.9.0.1"),
            "docker_range": IPv4Network("10.9.0.128/25"),
        }
    )
    containers = cast(Containers, world)

    async def nobody(_besides: str) -> int:
        return 0

    async def nothing(*_arguments: object) -> None: ...

    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:

        def make(idle: float) -> Reconciler:
            settings = make_settings(idle_seconds=idle)
            context = ProvisionerContext(
                settings=settings,
                database=database,
                nudge=Nudge(),
                host=host,
                front_key=FrontKey(b"f" * 32),
                gateway_key=GatewayKey(b"g" * 32),
                containers=containers,
                stacks=cast(StackManager, world),
                archive=Archive(settings.state, ArchiveKey(b"a" * 32), containers),
                http=http,
            )
            return Reconciler(context, new_owner(), WakeAdmission(nobody, nothing, nothing), asyncio.Semaphore(4))

        yield make


async def row(database: Database) -> Instance:
    async with database.read() as session:
        return await session.get_one(Instance, ID)


async def decided(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(Decision.action).order_by(Decision.id)))


def asked(action: Action) -> Request:
    return Request(action, "The operator asked for it.")


@pytest.mark.parametrize("action", [Action.WAKE, Action.RESTART])
async def test_when_it_sleeps_next_is_the_services_to_decide(
    reconciler: Callable[[float], Reconciler], world: World, database: Database, action: Action
) -> None:
    if action is Action.WAKE:
        await reconciler(COMMANDS_IDLE).carry_out(ID, asked(Action.SLEEP))
        assert world.state is ContainerState.PAUSED
    await reconciler(COMMANDS_IDLE).carry_out(ID, asked(action))
    assert world.state is ContainerState.RUNNING
    after = await row(database)
    assert after.ready_at is not None
    assert after.next_look_at is not None
    assert after.next_look_at <= now()
    assert Action.NOTHING not in await decided(database)
    await reconciler(SERVICES_IDLE).reconcile(ID)
    next_look_at = (await row(database)).next_look_at
    assert next_look_at is not None
    assert next_look_at <= after.ready_at + SERVICES_IDLE


async def test_one_that_was_put_to_sleep_is_looked_at_by_the_service(
    reconciler: Callable[[float], Reconciler], world: World, database: Database
) -> None:
    await reconciler(COMMANDS_IDLE).carry_out(ID, asked(Action.SLEEP))
    assert world.state is ContainerState.PAUSED
    after = await row(database)
    assert after.resting_since is not None
    assert after.next_look_at is not None
    assert after.next_look_at <= now()
    assert await decided(database) == ["sleep"]


async def test_what_may_not_be_done_is_refused_and_leaves_the_services_plan(
    reconciler: Callable[[float], Reconciler], world: World, database: Database
) -> None:
    await reconciler(SERVICES_IDLE).reconcile(ID)
    planned = (await row(database)).next_look_at
    world.busy = True
    with pytest.raises(Refused, match="a turn"):
        await reconciler(COMMANDS_IDLE).carry_out(ID, asked(Action.SLEEP))
    assert world.state is ContainerState.RUNNING
    assert (await row(database)).next_look_at == planned


async def test_a_thaw_is_told_as_a_wake_and_a_start_as_a_start(
    reconciler: Callable[[float], Reconciler], database: Database
) -> None:
    command = reconciler(COMMANDS_IDLE)
    await command.carry_out(ID, asked(Action.SLEEP))
    await command.carry_out(ID, asked(Action.WAKE))
    await command.carry_out(ID, asked(Action.RESTART))
    async with database.read() as session:
        stages = list(await session.scalars(select(TimelineEntry.stage).order_by(TimelineEntry.id)))
    assert [stage for stage in stages if stage in ("asleep", "woken", "started", "ready")] == [
        "asleep",
        "woken",
        "ready",
        "started",
        "ready",
    ]
