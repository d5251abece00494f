"""Fixtures with the real engine and a real Docker daemon: a host stack of the session's own, and stacks on it."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bot.credentials import new_instance_id
from bot.hostfacts import HostFacts
from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackFailed, StackManager
from bot.toolchain import Toolchain
from infra.spec import HostSpec, InstanceSpec


class Docker:
    """The daemon by its command line, so that what our own code says of it is checked by another."""

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run `docker` with these arguments; returns what it printed."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """What the daemon knows of a container, volume, network or image; None where there is none."""
        found = json.loads(self(kind, "inspect", name, check=False) or "[]")
        return dict(found[0]) if found else None


@dataclass(frozen=True)
class DockerHost:
    """A declared host: its own bridge, and OpenClaw's image."""

    spec: HostSpec
    facts: HostFacts
    #: Folder with the host's stack and `host.json`.
    state: Path


@pytest.fixture(scope="session")
def docker() -> Docker:
    """The daemon; a test without one fails."""
    docker = Docker()
    docker("version")
    return docker


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """The pinned engine, which `scripts/setup` has installed."""
    toolchain = Toolchain.from_pins()
    if not (toolchain.pulumi_bin / "pulumi").exists():
        pytest.fail("The Pulumi engine is missing; run `scripts/setup`.", pytrace=False)
    return toolchain


@pytest.fixture(scope="session")
def docker_host_stack(
    toolchain: Toolchain, docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerHost]:
    """A host stack that all tests of a session share, on a bridge that no other one uses."""
    state = tmp_path_factory.mktemp("host")

    @asynccontextmanager
    async def manager() -> AsyncIterator[StackManager]:
        async with Containers.connect() as containers:
            stacks = StackManager(toolchain, state, containers)
            try:
                yield stacks
            finally:
                await stacks.close()

    async def up(spec: HostSpec) -> None:
        async with manager() as stacks:
            await stacks.host_up(spec)

    async def down() -> None:
        async with manager() as stacks:
            await stacks.host_down()

    for _ in range(10):
        spec = unused_host(state)
        try:
            asyncio.run(up(spec))
            break
        except StackFailed as error:
            if "overlaps" not in str(error):
                raise
    else:
        pytest.fail("No free subnet was found; remove Docker networks that nobody uses.", pytrace=False)
    try:
        yield DockerHost(spec=spec, facts=HostFacts.read(state / "host.json"), state=state)
    finally:
        for name in docker("ps", "-a", "--filter", f"network={spec.network}", "--format", "{{.Names}}").split():
            docker("rm", "-f", name)
            docker("volume", "rm", "-f", name)
        asyncio.run(down())


def unused_host(state: Path) -> HostSpec:
    """A host on a bridge and subnet drawn at random, far from where a real one is."""
    name = f"zkt{secrets.token_hex(4)}"
    return HostSpec(
        image=Toolchain.from_pins().image_tag,
        host_file=str(state / "host.json"),
        network=name,
        bridge=name,
        subnet=IPv4Network(f"10.{100 + secrets.randbelow(150)}.{secrets.randbelow(256)}.0/24"),
        # The machine's swap stays as scripts/setup has brought it.
        host_swap_mib=0,
    )


@contextmanager
def image_that_sleeps(docker: Docker, base: str) -> Iterator[str]:
    """Id of an image like `base` that only sleeps, during the block."""
    container = docker("create", base)
    try:
        image = docker("commit", "--change", 'CMD ["sleep", "600"]', "--change", "ENTRYPOINT []", container)
    finally:
        docker("rm", container)
    try:
        yield image
    finally:
        docker("rmi", "-f", image, check=False)


@pytest.fixture(scope="session")
def sleeping_image(docker: Docker, docker_host_stack: DockerHost) -> Iterator[str]:
    """Id of an image like OpenClaw's that only sleeps, for tests that need a running container and no gateway."""
    with image_that_sleeps(docker, docker_host_stack.facts.image) as image:
        yield image


Specify = Callable[..., InstanceSpec]
MakeStacks = Callable[..., StackManager]

_addresses = count(10)


@pytest.fixture
def specify(docker: Docker, docker_host_stack: DockerHost, sleeping_image: str) -> Iterator[Specify]:
    """Call it to get the specification of a new instance; what is left of it is removed after the test."""
    made: list[str] = []

    def make(**changes: Any) -> InstanceSpec:
        facts = docker_host_stack.facts
        values: dict[str, Any] = {
            "id": new_instance_id(),
            "address": facts.subnet.network_address + 10 + next(_addresses) % 200,
            "network": facts.network,
            "image": sleeping_image,
        }
        spec = InstanceSpec(**{**values, **changes})
        made.append(spec.id)
        return spec

    yield make
    for name in made:
        docker("rm", "-f", name, check=False)
        docker("volume", "rm", "-f", name, check=False)


@pytest.fixture
async def make_stacks(toolchain: Toolchain, tmp_path: Path) -> AsyncIterator[MakeStacks]:
    """Call it with options to get a manager of the stacks below `tmp_path/state`, as another process would."""
    async with AsyncExitStack() as exits:
        containers = await exits.enter_async_context(Containers.connect())

        def make(**options: Any) -> StackManager:
            stacks = StackManager(toolchain, tmp_path / "state", containers, **options)
            exits.push_async_callback(stacks.close)
            return stacks

        yield make


@pytest.fixture
def stacks(make_stacks: MakeStacks) -> StackManager:
    """A manager of the stacks below `tmp_path/state`."""
    return make_stacks()
