"""An image that vanished, a disk that is full, a daemon that is away: told in a sentence, and over once it is over."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bot.credentials import new_instance_id
from bot.provisioner.containers import ContainerError, Containers, FileInVolume
from bot.provisioner.stacks import StackFailed, StackManager
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec
from tests.disks import fill, small_disk
from tests.e2e.conftest import Docker, DockerHost, Specify, image_that_sleeps


@pytest.fixture
async def containers() -> AsyncIterator[Containers]:
    async with Containers.connect() as containers:
        yield containers


@pytest.fixture
def image(docker: Docker, docker_host_stack: DockerHost) -> Iterator[str]:
    """An image of the test's own."""
    with image_that_sleeps(docker, docker_host_stack.facts.image) as image:
        yield image


async def test_who_has_a_container_needs_no_image_any_more(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker, image: str
) -> None:
    spec, late = specify(image=image), specify(image=image)
    first = await stacks.up(spec)
    docker("rmi", "-f", image)
    await containers.start(spec.id, spec.pids)
    assert not await containers.has_image(image)
    assert not (await stacks.up(spec, compare=True)).changed
    await containers.stop(spec.id)
    await containers.start(spec.id, spec.pids)
    again = docker.inspect("container", spec.id)
    assert again is not None
    assert (again["Id"], again["State"]["Running"]) == (first.container, True)

    with pytest.raises(StackFailed, match=f"the image {image} is not in Docker any more; run scripts/setup") as failed:
        await stacks.up(late)
    assert str(failed.value).endswith("it is tried again.")
    # The image is there again under the same digest, or, as here, another one is the host's now.
    other = specify(id=late.id, address=late.address)
    assert await containers.has_image(other.image)
    assert (await stacks.up(other)).container


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of the test's own."""
    with small_disk(tmp_path, 96) as disk:
        yield disk


class SmallDocker:
    """Another daemon, with all that it keeps on the small disk."""

    def __init__(self, disk: Path, folder: Path, docker: Docker) -> None:
        self.socket = f"unix://{folder}/docker.sock"
        self._log = folder / "dockerd.log"
        self._docker = docker
        # In a network of its own: without one it would take the bridges of the machine's daemon for its own.
        self._command = [
            *(
                "unshare",
                "--net",
                "dockerd",
                "-H",
                self.socket,
                "--data-root",
                f"{disk}/docker",
                "--exec-root",
                f"{folder}/exec",
            ),
            *("--pidfile", f"{folder}/pid", "--bridge=none", "--iptables=false"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        ends = time.monotonic() + 60
        while not self._docker("version", "--format", "{{.Server.Version}}", check=False):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < ends

    def stop(self) -> None:
        """End it, and with it its containers."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def image(self) -> str:
        """Id of an image that has nothing but a program that sleeps."""
        libraries = re.findall(r"(/\S+) \(", subprocess.check_output(["ldd", "/bin/sleep"], text=True))
        files = [name.lstrip("/") for name in ("/bin/sleep", *libraries)]
        tar = subprocess.check_output(["tar", "-C", "/", "-c", "-h", *files])
        command = ["docker", "import", "-c", 'CMD ["/bin/sleep", "600"]', "-"]
        return subprocess.run(command, input=tar, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture
def small_docker(disk: Path, tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDocker]:
    """The other daemon, which everything speaks to from now on."""
    small = SmallDocker(disk, tmp_path, docker)
    monkeypatch.setenv("DOCKER_HOST", small.socket)
    try:
        small.start()
        yield small
    finally:
        small.stop()


async def test_who_ends_is_noticed_before_and_after_a_restart_of_docker(
    small_docker: SmallDocker, docker: Docker
) -> None:
    image, name = small_docker.image(), new_instance_id()
    async with asyncio.timeout(120), Containers.connect() as containers:

        async def ends() -> None:
            docker("run", "-d", "--name", name, "--label", f"zaki.instance={name}", "--network=none", image)
            deaths = containers.deaths()
            first = asyncio.ensure_future(anext(deaths))
            while not first.done():
                # The daemon may be asked only just now.
                docker("kill", name, check=False)
                await asyncio.sleep(0.2)
                docker("start", name)
            assert await first == name
            await deaths.aclose()
            docker("rm", "-f", name)

        await ends()
        follows = asyncio.create_task(_all(containers.deaths()))
        await asyncio.sleep(0)
        small_docker.stop()
        # It comes to an end, well or not, so that it can be begun again.
        await asyncio.wait([follows])
        follows.exception()
        with pytest.raises(ContainerError, match="Docker does not answer"):
            await _all(containers.deaths())
        small_docker.start()
        await ends()


async def _all(names: AsyncIterator[str]) -> list[str]:
    return [name async for name in names]


async def test_a_full_disk_of_dockers_is_told_with_its_place(
    small_docker: SmallDocker, disk: Path, toolchain: Toolchain, docker: Docker, tmp_path: Path
) -> None:
    image = small_docker.image()
    docker("network", "create", "--subnet", "10.251.9.0/24", "small")

    def spec(last: int) -> InstanceSpec:
        address = IPv4Address(f"10.251.9.{last}")
        return InstanceSpec(id=new_instance_id(), address=address, network="small", image=image)

    async with Containers.connect() as containers:
        stacks = StackManager(toolchain, tmp_path / "state", containers)
        first, second = spec(8), spec(9)
        await stacks.up(first)
        filler = fill(disk)
        place = f"the disk of {disk}/docker/.* is full; free some room there, and it is tried again.$"
        with pytest.raises(StackFailed, match=place):
            await stacks.up(second)
        with pytest.raises(ContainerError, match=place):
            await containers.put_files(first.id, [FileInVolume("a", b"x" * 100_000)])
        filler.unlink()
        await containers.put_files(first.id, [FileInVolume("a", b"x" * 100_000)])
        assert (await stacks.up(second)).changed
        await stacks.close()


async def test_a_full_disk_of_the_stacks_is_told_with_its_place(
    containers: Containers, toolchain: Toolchain, specify: Specify, disk: Path
) -> None:
    stacks = StackManager(toolchain, disk / "state", containers)
    spec = specify()
    await stacks.up(spec)
    filler = fill(disk)
    larger = specify(id=spec.id, address=spec.address, memory_mib=3072, swap_mib=6144)
    with pytest.raises(StackFailed, match=f"the disk of {disk}.* is full; free some room there"):
        await stacks.up(larger)
    filler.unlink()
    assert (await stacks.up(larger)).changed
    assert not (await stacks.up(larger)).changed
    await stacks.destroy(spec.id)
    await stacks.close()


async def test_a_daemon_that_is_away_is_told(
    stacks: StackManager, specify: Specify, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specify()
    await stacks.up(spec)
    with monkeypatch.context() as away:
        away.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        with pytest.raises(StackFailed, match="Docker does not answer; `zaki doctor` names the cure"):
            await stacks.up(spec, compare=True)
    assert not (await stacks.up(spec, compare=True)).changed
