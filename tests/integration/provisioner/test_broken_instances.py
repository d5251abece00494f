"""A gateway that does not stay up: repaired once, then failed with its reason; Docker and Pulumi are stood in for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

import httpx
import pytest

from bot.credentials import ArchiveKey, FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner import waking
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers, FileInVolume, Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.lease import new_owner
from bot.provisioner.openclaw import CONFIG_FILE
from bot.provisioner.reconcile import InstanceBroken, Reconciler
from bot.provisioner.sleep import WakeAdmission
from bot.provisioner.stackresults import StackOutputs
from bot.provisioner.stacks import StackFailed, StackManager
from bot.provisioner.work import InstanceStumbled
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, User, Wanted, Wish
from infra.spec import InstanceSpec

ID = "u-aaaaaaaaaa"


@dataclass
class World:
    """A machine on which every gateway that is started ends at once, in the way that the test wants."""

    #: Raised where Pulumi is asked; None: it does what it is asked.
    pulumi_fails: Exception | None = None
    exit_code: int = 1
    oom_killed: bool = False
    address: str | None = None
    state: ContainerState = ContainerState.NONE
    starts: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    #: Commands that were run with the volume.
    repairs: list[list[str]] = field(default_factory=list)
    owners_mended: int = 0

    async def up(self, spec: InstanceSpec) -> StackOutputs:
        """Pulumi's part."""
        if self.pulumi_fails is not None:
            raise self.pulumi_fails
        self.address, self.state = str(spec.address), ContainerState.CREATED
        return StackOutputs("c" * 64, spec.id, str(spec.address), spec.image, {"create": 3})

    async def addresses(self, _network: str, besides: str = "") -> set[str]:
        return set()

    async def observe(self, _instance_id: str) -> Observed | None:
        if self.state is ContainerState.NONE:
            return None
        ended = self.state is ContainerState.EXITED
        return Observed(self.state, "sha256:0", self.address, self.exit_code if ended else 0, ended and self.oom_killed)

    async def start(self, _instance_id: str, _pids: int) -> None:
        self.starts += 1
        self.state = ContainerState.EXITED

    async def stop(self, _instance_id: str) -> None:
        self.state = ContainerState.EXITED

    async def put_files(self, _instance_id: str, files: list[FileInVolume]) -> None:
        self.files.update({file.path: file.content for file in files})

    async def read_file(self, _instance_id: str, path: str) -> bytes | None:
        return self.files.get(path)

    async def has_volume(self, _instance_id: str) -> bool:
        return True

    async def has_image(self, _image: str) -> bool:
        return True

    async def mend_owners(self, _instance_id: str) -> None:
        self.owners_mended += 1

    async def run_once(self, _instance_id: str, command: list[str]) -> int:
        self.repairs.append(command)
        return 0


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
    """What brings Ada's instance up, or tries to."""
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(Instance(id=ID, user_id=user.id, plan="standard", image="sha256:" + "0" * 64, created_at=now()))
    host = replace(
        host_facts,
        subnet=IPv4Network("10.9.0.0/24"),
        gateway=IPv4Address("10.9.0.1"),
        docker_range=IPv4Network("10.9.0.128/25"),
    )
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
            archive=Archive(settings.state, ArchiveKey(b"a" * 32), cast(Containers, world)),
            http=http,
        )

        async def nobody(_besides: str) -> int:
            return 0

        async def nothing(*_arguments: object) -> None: ...

        yield Reconciler(context, new_owner(), WakeAdmission(nobody, nothing, nothing), asyncio.Semaphore(4))


async def row(database: Database) -> Instance:
    async with database.read() as session:
        return await session.get_one(Instance, ID)


BROKEN: list[tuple[Mapping[str, Any], str]] = [
    ({"exit_code": 1}, "exit code 1"),
    ({"exit_code": 137, "oom_killed": True}, "out of memory"),
]


async def give_up(reconciler: Reconciler) -> list[float]:
    """Reconcile until it counts as failed; the pauses that it got in between, seconds."""
    pauses: list[float] = []
    with pytest.raises(InstanceBroken) as broken:
        while True:
            try:
                await reconciler.reconcile(ID)
            except InstanceStumbled as stumbled:
                pauses.append(stumbled.pause)
    assert str(broken.value)
    return pauses


@pytest.mark.parametrize(("how", "reason"), BROKEN)
async def test_a_gateway_that_ends_is_started_again_later_and_later_and_then_failed(
    reconciler: Reconciler, world: World, database: Database, how: Mapping[str, Any], reason: str
) -> None:
    vars(world).update(how)
    pauses = await give_up(reconciler)
    # At once, and then after longer and longer.
    assert world.starts == 4
    assert pauses == sorted(pauses)
    assert len(pauses) == 2
    failed = await row(database)
    assert reason in str(failed.failure)
    assert failed.ready_at is None
    # The wish was met as far as it can be: only a newer one is worth another attempt.
    assert failed.met_generation == 1
    assert failed.lease_owner is None


async def test_a_refused_configuration_is_repaired_by_openclaw_then_by_us_and_then_failed(
    reconciler: Reconciler, world: World, database: Database
) -> None:
    world.exit_code = 78
    await give_up(reconciler)
    assert [command[2:4] for command in world.repairs] == [["doctor", "--fix"]]
    assert world.owners_mended == 1
    assert f"{CONFIG_FILE}.refused" in world.files
    assert "78" in str((await row(database)).failure)


async def test_a_newer_wish_is_another_attempt(reconciler: Reconciler, world: World, database: Database) -> None:
    await give_up(reconciler)
    before = world.starts
    async with database.write() as session:
        instance = await session.get_one(Instance, ID)
        wish = await session.get_one(Wish, instance.user_id)
        wish.generation += 1
    await give_up(reconciler)
    assert world.starts > before


async def test_pulumi_in_trouble_is_no_failure_of_the_instance(
    reconciler: Reconciler, world: World, database: Database
) -> None:
    world.pulumi_fails = StackFailed("The engine cannot be reached.")
    with pytest.raises(StackFailed):
        await reconciler.reconcile(ID)
    waiting = await row(database)
    # Nothing is given up: the wish is not met, so the provisioner comes back to it.
    assert (waiting.failure, waiting.met_generation, waiting.lease_owner) == (None, 0, None)
    world.pulumi_fails = None
    await give_up(reconciler)
    assert world.starts > 0
