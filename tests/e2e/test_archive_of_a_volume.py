"""Real volumes through the real Docker into the real restic and back, whatever a tenant left in them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiodocker
import pytest

from bot.credentials import ArchiveKey, new_instance_id
from bot.provisioner.archive import Archive, ArchiveError
from bot.provisioner.containers import ContainerError, Containers
from tests.e2e.conftest import Docker

KEY = ArchiveKey(b"k" * 32)
#: Run as root: what an assistant may have left, and what went wrong around it.
ODD_FILES = r"""
import os, socket
os.chdir("/home/node")
os.umask(0)

def write(name, content=b"", mode=0o644, owner=1000):
    with open(name, "wb") as file:
        file.write(content)
    os.chown(name, owner, owner)
    os.chmod(name, mode)

os.mkdir(".openclaw", 0o700)
write(".openclaw/openclaw.json", b"{}", 0o600)
write(".openclaw/roots", b"root's", 0o600, owner=0)
write(".openclaw/strangers", b"a stranger's", 0o640, owner=54321)
write("empty")
write("unreadable", b"?", 0)
write("setuid", b"#!", 0o6755)
os.link("setuid", ".openclaw/hard")
write(b"not \xff utf-8\n")
write("x" * 255)
write(".wh.white-out")
write("old")
os.utime("old", (1, 1))
deep = "d" * 200
os.makedirs("/".join([deep] * 10))
write("/".join([deep] * 10) + "/bottom", b"deep")
os.mkdir("no-entry", 0)
os.mkdir("sticky", 0o1777)
os.mkdir("group", 0o2775)
os.symlink("/etc/passwd", "absolute")
os.symlink("../" * 20 + "etc/passwd", "outwards")
os.symlink("nowhere/" + "y" * 200, "dangling")
os.symlink(".", "itself")
os.mkfifo("pipe", 0o620)
with open("hole", "wb") as file:
    file.seek(5_000_000)
    file.write(b"end")
with open("large", "wb") as file:
    file.write(os.urandom(8_000_000))
server = socket.socket(socket.AF_UNIX)
server.bind("socket")
os.chmod("/home/node", 0o750)
"""
#: The home folder's mode and owner; every entry in it with its kind, mode, owner, links, time and target.
ENTRIES = (
    "cd /home/node && stat -c '%a %u:%g' ."
    r" && find . -mindepth 1 ! -type s -printf '%P|%y|%m|%U:%G|%n|%Ts|%l\n' | LC_ALL=C sort | cat -v"
)
#: The checksum of every file's content.
CONTENTS = "cd /home/node && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | cat -v"
DAEMON = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


class Tenant:
    """A container and a volume as an instance's stack declares them, as far as archives see of them."""

    def __init__(self, docker: Docker, image: str) -> None:
        self.id = new_instance_id()
        self._docker = docker
        self._image = image

    def declare(self) -> None:
        """Make the container, and the volume where it is not there."""
        label = f"zaki.instance={self.id}"
        self._docker("volume", "create", "--label", label, self.id)
        volume = f"{self.id}:/home/node"
        limits = ("--memory", "512m", "--memory-swap", "1g", "--read-only", "--network", "none")
        self._docker("create", "--name", self.id, "--label", label, "-v", volume, *limits, self._image)

    def remove(self) -> None:
        """Take away what there is."""
        self._docker("rm", "-f", self.id, f"{self.id}-helper", check=False)
        self._docker("volume", "rm", "-f", self.id, check=False)

    def as_root(self, *command: str) -> str:
        """Run a command with the volume."""
        around = ("--rm", "-u", "0", "--network", "none", "-v", f"{self.id}:/home/node")
        return self._docker("run", *around, self._image, *command)

    def listing(self) -> str:
        """All that is in the volume."""
        return self.as_root("sh", "-c", f"({ENTRIES}) && {CONTENTS}")

    def leftovers(self) -> str:
        """Helpers that are still there."""
        return self._docker("ps", "-aq", "--filter", f"label=zaki.helper={self.id}")


@pytest.fixture
def tenant(docker: Docker, sleeping_image: str) -> Iterator[Tenant]:
    """An instance with odd files in its volume; removed after the test."""
    tenant = Tenant(docker, sleeping_image)
    try:
        tenant.declare()
        tenant.as_root("python3", "-c", ODD_FILES)
        yield tenant
    finally:
        tenant.remove()


@pytest.fixture
async def containers() -> AsyncIterator[Containers]:
    """The daemon."""
    async with Containers.connect() as containers:
        yield containers


@pytest.fixture
def archive(containers: Containers, tmp_path: Path) -> Archive:
    """Archives below `tmp_path`."""
    return Archive(tmp_path, KEY, containers)


@asynccontextmanager
async def docker_that_breaks_off(folder: Path, *, after: int) -> AsyncIterator[Containers]:
    """The daemon behind a line that is cut once so many bytes went over one connection in either direction."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Callable[[], None]) -> None:
        went = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                went += len(piece)
                if went > after:
                    break
                writer.write(piece)
                await writer.drain()
        cut()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        daemon_reader, daemon_writer = await asyncio.open_unix_connection(DAEMON)

        def cut() -> None:
            writer.transport.abort()
            daemon_writer.transport.abort()

        await asyncio.gather(pump(reader, daemon_writer, cut), pump(daemon_reader, writer, cut))

    server = await asyncio.start_unix_server(serve, folder / "docker.sock")
    docker = aiodocker.Docker(url=f"unix://{folder / 'docker.sock'}")
    try:
        yield Containers(docker)
    finally:
        await docker.close()
        server.close()


async def test_odd_files_come_back_as_they_were(tenant: Tenant, archive: Archive) -> None:
    before = tenant.listing()
    saved = await archive.save(tenant.id)
    assert tenant.listing() == before
    tenant.remove()
    tenant.declare()

    assert await archive.restore(tenant.id, saved.snapshot)

    assert tenant.listing() == before
    assert not tenant.leftovers()
    tenant.as_root("touch", "/home/node/written-since")
    assert not await archive.restore(tenant.id, saved.snapshot)
    assert "written-since" in tenant.listing()


async def test_a_line_that_breaks_makes_no_archive(tenant: Tenant, archive: Archive, tmp_path: Path) -> None:
    async with docker_that_breaks_off(tmp_path, after=5_000_000) as broken:
        with pytest.raises(ArchiveError, match=r"Docker broke off while it read the volume"):
            await Archive(tmp_path, KEY, broken).save(tenant.id)
    assert await archive.latest(tenant.id) is None
    assert (await archive.save(tenant.id)).bytes > 13_000_000


async def test_a_line_that_breaks_on_the_way_back_is_told_and_the_next_try_works(
    tenant: Tenant, archive: Archive, tmp_path: Path
) -> None:
    before = tenant.listing()
    saved = await archive.save(tenant.id)
    tenant.remove()
    tenant.declare()
    async with docker_that_breaks_off(tmp_path, after=9_000_000) as broken:
        with pytest.raises(ArchiveError, match="cannot be restored"):
            await Archive(tmp_path, KEY, broken).restore(tenant.id, saved.snapshot)
    assert tenant.listing() != before
    assert await archive.restore(tenant.id, saved.snapshot)
    assert tenant.listing() == before


_RESTORE = """
import asyncio, pathlib, sys
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from tests.e2e.test_archive_of_a_volume import KEY

async def restore(state, instance_id, snapshot):
    async with Containers.connect() as containers:
        await Archive(pathlib.Path(state), KEY, containers).restore(instance_id, snapshot)

asyncio.run(restore(*sys.argv[1:]))
"""


async def test_a_restore_that_was_killed_is_done_again(
    tenant: Tenant, archive: Archive, containers: Containers, tmp_path: Path
) -> None:
    before = tenant.listing()
    saved = await archive.save(tenant.id)
    tenant.remove()
    tenant.declare()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RESTORE, tmp_path, tenant.id, saved.snapshot), cwd=Path(__file__).parents[2]
    )
    try:
        async with asyncio.timeout(60):
            while not await containers.has_path(tenant.id, ".openclaw"):
                assert process.returncode is None
                await asyncio.sleep(0.005)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await archive.restore(tenant.id, saved.snapshot)
    assert tenant.listing() == before
    assert not tenant.leftovers()


async def test_what_runs_is_left_alone(
    tenant: Tenant, archive: Archive, containers: Containers, docker: Docker
) -> None:
    docker("start", tenant.id)
    before = tenant.listing()
    with pytest.raises(ArchiveError, match="runs; stop it before its volume is touched"):
        await archive.save(tenant.id)
    with pytest.raises(ContainerError, match="runs; stop it before its volume is touched"):
        await containers.mend_owners(tenant.id)
    assert tenant.listing() == before
    docker("kill", tenant.id)

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(ContainerError, match="ran already"):
        await containers.put_tar(tenant.id, nothing())


async def test_files_of_others_become_the_gateways(tenant: Tenant, containers: Containers) -> None:
    tenant.as_root("chown", "-h", "0:0", "/home/node", "/home/node/absolute", "/home/node/no-entry")
    contents = tenant.as_root("sh", "-c", CONTENTS)

    await containers.mend_owners(tenant.id)

    assert tenant.as_root("sh", "-c", "find /home/node ! -uid 1000 -o ! -gid 1000") == ""
    assert tenant.as_root("sh", "-c", CONTENTS) == contents
    assert tenant.as_root("stat", "-c", "%u %a", "/etc/passwd") == "0 644"
    assert not tenant.leftovers()
