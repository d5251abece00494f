"""An attacker and a neighbour from the real stack, in the namespaces of a host with a firewall and an internet."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from bot.attack.attempts import ATTEMPTS
from bot.attack.judges import Verdict
from bot.attack.scene import SCRIPT, Listening, Scene, Target, listening
from bot.credentials import ArchiveKey, new_instance_id
from bot.provisioner import disks
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers, FileInVolume
from bot.provisioner.stacks import StackManager
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec
from tests.e2e.attacker.front import AttackedFront, attacked_front
from tests.e2e.conftest import Docker, DockerHost
from tests.e2e.network.conftest import specified
from tests.e2e.network.namespaces import (
    ANNA,
    BERT,
    GATEWAY,
    GATEWAY6,
    HOST_PUBLIC,
    HOST_SECOND,
    INTERNET_PORTS,
    METADATA,
    OTHER,
    PUBLIC,
    PUBLIC6,
    PUBLISHED,
    REFUSED_TARGETS,
    World,
    world,
)

#: Set by `scripts/bench isolation`: where every verdict goes.
REPORT = "ZAKI_ATTACK_REPORT"
#: Ports of the host besides the one that is open.
_CLOSED = (22, 80, 443, 2375, 2376, 5432, 6443, 9000)
_HOST = [
    *(Target(address, port) for address in (GATEWAY, HOST_PUBLIC, HOST_SECOND) for port in _CLOSED),
    *(Target(address, 9000, "udp") for address in (GATEWAY, HOST_PUBLIC, HOST_SECOND)),
    *(Target(address, 8081) for address in (HOST_PUBLIC, HOST_SECOND)),
    Target(GATEWAY6, 22),
    Target(GATEWAY6, 8081),
]
_SIX = [Target(PUBLIC6, 443), Target(PUBLIC6, 9000, "udp"), Target("fd00:86::3", 443), Target(GATEWAY6, 22)]
TARGETS = {
    "neighbour": [Target(BERT, port, kind) for port in INTERNET_PORTS for kind in ("tcp", "udp")],
    "host-ports": [one for one in _HOST if ":" not in one.address],
    "metadata": [Target(METADATA, 80), Target(METADATA, 443), Target(METADATA, 80, "udp")],
    "private": [
        Target(address, port, kind)
        for address in REFUSED_TARGETS
        if address != METADATA
        for port, kind in ((80, "tcp"), (443, "tcp"), (9000, "udp"))
    ],
    "ipv6": _SIX,
    "mail": [Target(PUBLIC, port) for port in (25, 465, 587)],
    "published": [Target(HOST_PUBLIC, PUBLISHED), Target(OTHER, 80)],
}
_FORGED = Target(PUBLIC, 9101, "udp")
_REBOUND = Target(METADATA, 80)


@dataclass
class Stands:
    """The kernels of all namespaces count what arrives there; a listener on the host tells what came through."""

    world: World
    on_host: Listening
    _seen: int = field(default=0)

    async def watch(self) -> None:
        """Count from now on."""
        await asyncio.to_thread(self.world.watch)
        self._seen = len(await self.on_host.arrived())

    async def landed(self) -> Collection[Target]:
        """What arrived since."""
        found = {Target(to, port, kind) for to, kind, port in await asyncio.to_thread(self.world.landed)}
        if Target(OTHER, 80) in found:
            found.add(Target(HOST_PUBLIC, PUBLISHED))
        return found | set((await self.on_host.arrived())[self._seen :])


@dataclass(frozen=True)
class Stage:
    """The scene with all that a test may switch off."""

    scene: Scene
    world: World
    front: AttackedFront

    @property
    def as_root(self) -> tuple[str, ...]:
        """How the script is started in the attacker's network by somebody who may do everything there."""
        return (*self.world.anna.command(sys.executable), "-s", "-c", SCRIPT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    docker: Docker,
    docker_host_stack: DockerHost,
    toolchain: Toolchain,
    sleeping_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    """Both instances run, and everything stands."""
    folder = tmp_path_factory.mktemp("attack")
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)
    attacker, neighbour = (
        InstanceSpec(
            id=new_instance_id(),
            address=docker_host_stack.facts.subnet.network_address + number,
            network=docker_host_stack.facts.network,
            image=sleeping_image,
            memory_mib=1280,
            swap_mib=2560,
            disk_mib=96,
            inodes=2000,
            volumes=str(folder / "volumes"),
        )
        for number in (2, 3)
    )
    async with AsyncExitStack() as exits:
        containers = await exits.enter_async_context(Containers.connect())
        stacks = StackManager(toolchain, folder / "state", containers)
        exits.push_async_callback(stacks.close)
        exits.push_async_callback(_remove, docker, folder / "volumes", attacker.id, neighbour.id)
        await asyncio.gather(*(stacks.up(spec) for spec in (attacker, neighbour)))
        pids = []
        for spec in (attacker, neighbour):
            await containers.start(spec.id, spec.pids)
            process = await containers.process(spec.id)
            assert process is not None
            pids.append(process.pid)
        made = exits.enter_context(world(folder, specified(folder), host_ports=(), instances=pids))
        made.members.parent.mkdir(parents=True)
        made.members.write_text(f"{ANNA} open\n{BERT} open\n")
        loaded = made.load()
        assert loaded.returncode == 0, loaded.stderr
        names = str(Path(__file__).parents[1] / "network" / "names.py")
        exits.enter_context(
            made.internet.running(sys.executable, names, f"rebound.example.org={METADATA}", until="serving")
        )
        listener = await exits.enter_async_context(
            listening(_HOST, *made.host.command(), python=sys.executable),
        )
        front = await exits.enter_async_context(attacked_front(made.host.name, folder))
        await front.hold((attacker.id, ANNA), (neighbour.id, BERT))
        (folder / "canaries").mkdir()
        scene = Scene(
            attacker=attacker,
            neighbour=neighbour,
            containers=containers,
            stacks=stacks,
            archive=Archive(folder / "state", ArchiveKey(b"k" * 32), containers),
            folder=folder / "canaries",
            stands=Stands(made, listener),
            targets=TARGETS,
            front=front,
            forged=(_FORGED, (BERT, GATEWAY, "10.99.0.7", "93.184.216.77", "127.0.0.9")),
            rebinding=(PUBLIC, "rebound.example.org", _REBOUND),
            gateway=front.at,
            on_host=made.host.command(),
        )
        yield Stage(scene, made, front)


async def _remove(docker: Docker, volumes: Path, *names: str) -> None:
    for name in names:
        docker("rm", "-f", name, check=False)
        docker("volume", "rm", "-f", name, check=False)
        await disks.remove(volumes, name)


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, Verdict]]:
    """What came of each attempt, by its name; written where the bench looks for it."""
    found: dict[str, Verdict] = {}
    yield found
    if REPORT in os.environ:
        lines = [found[attempt.name].as_json() for attempt in ATTEMPTS if attempt.name in found]
        Path(os.environ[REPORT]).write_text(json.dumps(lines))


def without(scene: Scene, **changes: object) -> Scene:
    """The scene with something of it replaced."""
    return dataclasses.replace(scene, **changes)  # type: ignore[arg-type]


@pytest.fixture
def unguarded(stage: Stage) -> Iterator[None]:
    """No firewall during the test."""
    stage.world.unload()
    yield
    assert stage.world.load().returncode == 0


@pytest.fixture
def loose(stage: Stage, docker: Docker) -> Iterator[InstanceSpec]:
    """A container that has nothing of an instance's shape but its image: root, in the host's network."""
    spec = dataclasses.replace(stage.scene.attacker, id=new_instance_id())
    given = ("--user=0", "--network=host", "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined")
    label = f"--label=zaki.instance={spec.id}"
    docker("run", "--detach", "--init", f"--name={spec.id}", label, *given, spec.image, "sleep", "120")
    yield spec
    docker("rm", "-f", spec.id)


class CarelessContainers:
    """Reads and writes a volume by its path on the host, as nobody should."""

    def __init__(self, scene: Scene) -> None:
        self._home = Path(scene.attacker.volumes or "", scene.attacker.id, "data")

    async def read_file(self, _id: str, path: str) -> bytes | None:
        """What a link leads to, wherever that is."""
        return (self._home / path).read_bytes() if (self._home / path).exists() else None

    async def put_files(self, _id: str, files: list[FileInVolume]) -> None:
        """Write where a link leads."""
        for file in files:
            (self._home / file.path).write_bytes(file.content)
