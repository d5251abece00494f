"""A host and a service for conversations with the real Docker, Pulumi and OpenClaw."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bot.provisioner.containers import Containers
from bot.provisioner.single import provisioning
from bot.provisioner.stacks import StackManager
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.toolchain import Toolchain
from infra.spec import HostSpec
from tests.e2e.conversation.served import TOKEN, ServedZaki


@pytest.fixture(scope="module")
def host_facts() -> Iterator[Path]:
    """A host of the module's own: bridge, subnet, and the file that tells the service of them."""
    state = Path(tempfile.mkdtemp(prefix="zaki-e2e-host-"))
    toolchain = Toolchain.from_pins()
    spec = HostSpec(
        image=toolchain.image_tag,
        host_file=str(state / "host.json"),
        network="zkconv",
        bridge="zkconv",
        subnet=IPv4Network("10.94.0.0/16"),
    )

    async def with_stacks(act: Callable[[StackManager], Awaitable[object]]) -> None:
        async with Containers.connect() as containers:
            stacks = StackManager(toolchain, state, containers)
            try:
                await act(stacks)
            finally:
                await stacks.close()

    asyncio.run(with_stacks(lambda stacks: stacks.host_up(spec)))
    try:
        yield state / "host.json"
    finally:
        asyncio.run(with_stacks(lambda stacks: stacks.host_down()))
        shutil.rmtree(state)


@pytest.fixture
async def zaki(host_facts: Path, tmp_path: Path) -> AsyncIterator[ServedZaki]:
    """A fresh service with nobody in it; everything that it makes is removed at the end."""
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(host_facts, state / "host.json")
    simulator = create_app(SimulatorConfig(token=TOKEN))
    async with running(simulator, host="127.0.0.1", port=0) as api, SimulatorClient(api) as people:
        served = ServedZaki(state, people, api, tmp_path / "zaki.log")
        try:
            await served.start()
            yield served
        finally:
            served.stop()
            async with provisioning(served.settings, served.database) as provisioner:
                await provisioner.remove_all()
            await served.database.close()
