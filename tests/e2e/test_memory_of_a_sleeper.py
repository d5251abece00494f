"""A paused container's memory goes to swap and comes back as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bot.credentials import new_instance_id
from bot.provisioner.containers import Containers
from bot.provisioner.sleep import ContainerMemory
from tests.e2e.conftest import Docker

MB = 10**6
#: Holds 200 MB that do not compress, and prints their checksum at the start and whenever it is asked.
_HOLDER = """
const { createHash, randomFillSync } = require("node:crypto");
const held = Buffer.alloc(200e6);
for (let at = 0; at < held.length; at += 50e6) randomFillSync(held, at, 50e6);
const tell = () => console.log(createHash("sha256").update(held).digest("hex"));
process.on("SIGUSR2", tell);
tell();
setInterval(() => {}, 60_000);
"""


@pytest.fixture
def holder(docker: Docker, sleeping_image: str) -> Iterator[str]:
    """Name of a container that holds 200 MB."""
    name = new_instance_id()
    limits = ("--memory", "600m", "--memory-swap", "1800m", "--network", "none")
    docker("run", "-d", "--init", "--name", name, *limits, sleeping_image, "node", "-e", _HOLDER)
    yield name
    docker("rm", "-f", name, check=False)


async def checksums(docker: Docker, name: str, count: int) -> list[str]:
    """What the holder has told, once it has so often."""
    async with asyncio.timeout(60):
        while len(told := docker("logs", name).splitlines()) < count:
            await asyncio.sleep(0.1)
    return told


async def test_memory_leaves_and_comes_back_unchanged(docker: Docker, holder: str) -> None:
    await checksums(docker, holder, 1)
    docker("pause", holder)
    async with Containers.connect() as containers:
        process = await containers.process(holder)
    assert process is not None
    assert process.container == docker("inspect", "--format", "{{.Id}}", holder)
    memory = ContainerMemory.of(process)
    assert memory.usage().limit_bytes == 600 * 1024 * 1024
    assert memory.usage().resident_bytes > 200 * MB

    done = await memory.reclaim()

    use = memory.usage()
    assert done.before_bytes > 200 * MB
    assert use.resident_bytes < 40 * MB
    assert use.swapped_bytes > 200 * MB

    docker("unpause", holder)
    docker("kill", "--signal", "USR2", holder)
    before, after = await checksums(docker, holder, 2)
    assert before == after
    assert memory.usage().resident_bytes > 200 * MB


async def test_what_does_not_run_has_no_process(docker: Docker, holder: str) -> None:
    docker("rm", "-f", holder)
    async with Containers.connect() as containers:
        assert await containers.process(holder) is None
