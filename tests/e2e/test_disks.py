"""Disks of instances with the real Docker and Pulumi: a limit that holds, and nothing lost, left or begun twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.provisioner import disks
from bot.provisioner.containers import ContainerError, Containers
from bot.provisioner.disks import DiskError
from bot.provisioner.drift import drift
from bot.provisioner.stacks import StackFailed, StackManager
from infra.disk import SCRIPT, Disk, Verb, render
from infra.spec import InstanceSpec
from tests.disks import fill, small_disk
from tests.e2e.conftest import Docker, Specify

#: Inside of the container, as the gateway's user.
FILL = "dd if=/dev/zero of=/home/node/filler bs=64k 2>&1; sync -f /home/node; stat -c %s /home/node/filler"
MANY = "i=0; mkdir many; while touch many/$i; do i=$((i + 1)); done 2>&1; ls many | wc -l"
SEED = 20


@pytest.fixture
async def containers() -> AsyncIterator[Containers]:
    async with Containers.connect() as containers:
        yield containers


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """The folder of disks of a host of the test's own."""
    return tmp_path / "volumes"


@pytest.fixture
def small(specify: Specify, volumes: Path) -> Specify:
    """Call it for the specification of an instance with a disk of 64 MiB."""

    def make(**changes: Any) -> InstanceSpec:
        return specify(**{"volumes": str(volumes), "disk_mib": 64, "inodes": 2000, **changes})

    return make


def attached(volumes: Path) -> dict[str, str]:
    """Loop devices by the files below the folder that they show, those too that are removed by now."""
    listed = subprocess.run(["losetup", "--json", "--list"], capture_output=True, text=True, check=True).stdout
    found = json.loads(listed or '{"loopdevices": []}')["loopdevices"]
    return {one["name"]: one["back-file"] for one in found if one["back-file"].startswith(f"{volumes}/")}


def in_container(docker: Docker, spec: InstanceSpec, script: str) -> str:
    """What a script prints in the running instance, as its user."""
    return docker("exec", "-w", "/home/node", spec.id, "sh", "-c", script)


async def up(stacks: StackManager, containers: Containers, spec: InstanceSpec) -> None:
    """Bring it up and start it."""
    await stacks.up(spec)
    await containers.start(spec.id, spec.pids)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A file system where nobody else makes or removes anything."""
    (tmp_path / "host").mkdir()
    with small_disk(tmp_path / "host", 1400) as host:
        yield host


async def test_an_instance_fills_its_own_disk_and_hurts_nobody(
    host: Path, stacks: StackManager, containers: Containers, small: Specify, docker: Docker
) -> None:
    volumes = host / "volumes"
    greedy, neighbour = (small(volumes=str(volumes)) for _ in range(2))
    await up(stacks, containers, greedy)
    await up(stacks, containers, neighbour)
    before = os.statvfs(volumes)

    said = in_container(docker, greedy, FILL)
    assert "No space left on device" in said
    assert 40 << 20 < int(said.splitlines()[-1]) < 64 << 20
    use = disks.use(volumes, greedy.id)
    assert use is not None
    assert (use.is_full, use.short_of) == (True, "space")
    in_container(docker, greedy, "rm filler")

    said = in_container(docker, greedy, MANY)
    assert "No space left on device" in said
    assert 1500 < int(said.splitlines()[-1]) < 2500
    use = disks.use(volumes, greedy.id)
    assert use is not None
    assert (use.is_full, use.short_of) == (True, "files")

    # All of it was taken when the disk was made.
    after = os.statvfs(volumes)
    assert after.f_bavail * after.f_frsize > before.f_bavail * before.f_frsize - (1 << 20)
    assert (volumes / f"{greedy.id}.img").stat().st_blocks * 512 >= 64 << 20
    in_container(docker, neighbour, "dd if=/dev/zero of=mine bs=1M count=20 && mkdir a && : >a/b")
    calm = disks.use(volumes, neighbour.id)
    assert calm is not None
    assert 30 < calm.percent < 60

    # What is in it can neither become somebody else nor reach a device.
    mounted = in_container(docker, greedy, "grep ' /home/node ' /proc/self/mounts")
    assert {"nosuid", "nodev"} <= set(mounted.split()[3].split(","))
    assert in_container(docker, greedy, "stat -c '%u %g' /home/node") == "1000 1000"
    # Nor is it open to whoever has its user's number on the host.
    assert (volumes / greedy.id).stat().st_mode & 0o7777 == 0o700


async def test_a_second_up_changes_nothing_and_the_container_is_as_declared(
    stacks: StackManager, containers: Containers, small: Specify, docker: Docker, volumes: Path
) -> None:
    spec = small()
    assert (await stacks.preview(spec)).changes == {"create": 5}
    assert not volumes.exists()
    await up(stacks, containers, spec)
    assert not (await stacks.up(spec)).changed
    assert not (await stacks.up(spec, compare=True)).changed
    observed = await containers.observe(spec.id)
    assert observed is not None
    assert drift(observed, spec) is None
    assert await containers.folder_of_disk(spec.id) == str(volumes)
    [file] = attached(volumes).values()
    assert file == f"{volumes}/{spec.id}.img"


@pytest.mark.parametrize("state", ["created", "running", "paused"])
async def test_a_disk_grows_with_all_that_is_in_it_and_never_shrinks(
    stacks: StackManager, containers: Containers, small: Specify, docker: Docker, volumes: Path, state: str
) -> None:
    spec = small()
    await up(stacks, containers, spec)
    in_container(docker, spec, "head -c 20000000 /dev/urandom >mine && sha256sum mine >sum")
    if state == "created":
        await containers.stop(spec.id)
    elif state == "paused":
        await containers.pause(spec.id)
    first = docker.inspect("container", spec.id)
    larger = replace(spec, disk_mib=192)
    assert larger.disk is not None
    assert (await stacks.up(larger)).changed
    again = docker.inspect("container", spec.id)
    assert first is not None
    assert again is not None
    assert (again["Id"], again["State"]["Status"]) == (first["Id"], first["State"]["Status"])
    # A kernel may refuse to grow what is mounted, here or in a mount namespace that somebody made meanwhile: then it
    # grows before a later start, as the provisioner starts it.
    async with asyncio.timeout(120):
        while True:
            await containers.stop(spec.id)
            await disks.keep(larger.disk)
            await containers.start(spec.id, spec.pids)
            grown = disks.use(volumes, spec.id)
            assert grown is not None
            if grown.size > 150 << 20:
                break
    assert in_container(docker, spec, "sha256sum -c sum") == "mine: OK"
    assert not (await stacks.up(larger)).changed

    assert (await stacks.up(spec)).changed
    stays = disks.use(volumes, spec.id)
    assert stays is not None
    assert stays.size == grown.size
    assert in_container(docker, spec, "sha256sum -c sum") == "mine: OK"


@pytest.mark.parametrize("state", ["created", "running", "without a stack", "unmounted", "without a volume"])
async def test_deletion_leaves_no_file_no_mount_and_no_device(
    stacks: StackManager,
    containers: Containers,
    small: Specify,
    docker: Docker,
    volumes: Path,
    tmp_path: Path,
    state: str,
) -> None:
    spec, other = small(), small()
    await stacks.up(other)
    await stacks.up(spec)
    if state == "running":
        docker("start", spec.id)
    elif state == "without a stack":
        subprocess.run(["rm", "-r", tmp_path / "state" / "stacks" / spec.id], check=True)
    elif state == "unmounted":
        subprocess.run(["umount", volumes / spec.id], check=True)
    elif state == "without a volume":
        docker("rm", spec.id)
        docker("volume", "rm", spec.id)
    await stacks.destroy(spec.id)
    assert docker.inspect("volume", spec.id) is None
    assert disks.ids(volumes) == {other.id}
    assert sorted(path.name for path in volumes.iterdir()) == [other.id, f"{other.id}.img"]
    assert list(attached(volumes).values()) == [f"{volumes}/{other.id}.img"]
    await stacks.destroy(spec.id)
    assert disks.is_mounted(volumes, other.id)


async def test_an_unmounted_volume_does_not_start_and_says_why(
    stacks: StackManager, containers: Containers, small: Specify, docker: Docker, volumes: Path
) -> None:
    spec = small()
    await up(stacks, containers, spec)
    in_container(docker, spec, "echo mine >note")
    await containers.stop(spec.id)
    subprocess.run(["umount", volumes / spec.id], check=True)
    assert disks.use(volumes, spec.id) is None
    why = f"the disk of {spec.id} is not mounted at {volumes}/{spec.id}; `zaki instance wake {spec.id}` mounts it"
    with pytest.raises(ContainerError, match=re.escape(why)):
        await containers.start(spec.id, spec.pids)
    # Nor is another container made that would write to the host's own disk.
    with pytest.raises(StackFailed, match=re.escape(why)):
        await stacks.up(replace(spec, cpus="1.0"))
    assert list((volumes / spec.id).iterdir()) == []
    await disks.mount(volumes, spec.id)
    await up(stacks, containers, replace(spec, cpus="1.0"))
    assert in_container(docker, spec, "cat note") == "mine"


async def test_a_host_without_room_makes_no_disk_and_says_so(host: Path, stacks: StackManager, small: Specify) -> None:
    first, second = (small(volumes=str(host / "volumes")) for _ in range(2))
    await stacks.up(first)
    larger = replace(first, disk_mib=500)
    sentence = (
        rf"^The stack of {first.id} could not be brought up: The disk of {first.id} needs 436 MiB below "
        rf"{host}/volumes, where \d+ MiB are free and 1024 stay free: free some room there, and it is tried again.$"
    )
    with pytest.raises(StackFailed, match=sentence):
        await stacks.up(larger)
    filler = fill(host)
    with pytest.raises(StackFailed, match=r"where \d+ MiB are free and 1024 stay free"):
        await stacks.up(second)
    assert disks.ids(host / "volumes") == {first.id}
    filler.unlink()
    assert (await stacks.up(second)).changed
    for spec in (first, second):
        await stacks.destroy(spec.id)


async def test_a_disk_that_is_gone_is_not_made_anew_by_an_update(
    stacks: StackManager, small: Specify, volumes: Path
) -> None:
    spec = small()
    await stacks.up(spec)
    subprocess.run(["umount", volumes / spec.id], check=True)
    (volumes / f"{spec.id}.img").rename(volumes / "kept")
    with pytest.raises(StackFailed, match=f"The disk of {spec.id}, {volumes}/{spec.id}.img, is missing: put it back"):
        await stacks.up(replace(spec, disk_mib=128))
    (volumes / "kept").rename(volumes / f"{spec.id}.img")
    assert (await stacks.up(replace(spec, disk_mib=128))).changed


async def test_what_is_somebody_elses_is_left_alone(small: Specify, volumes: Path) -> None:
    spec, other = small(), small()
    assert spec.disk is not None
    assert other.disk is not None
    for disk in (spec.disk, other.disk):
        assert begin(Verb.MAKE, disk).wait() == 0
    subprocess.run(["umount", volumes / spec.id], check=True)
    # A copy of another's, as a hand may put back the wrong one.
    mine, wrong = volumes / f"{spec.id}.img", volumes / "mine"
    mine.rename(wrong)
    subprocess.run(["cp", "--sparse=always", volumes / f"{other.id}.img", mine], check=True)
    with pytest.raises(DiskError, match=f"{mine} is not the disk of {spec.id}: put that back"):
        await disks.mount(volumes, spec.id)
    with pytest.raises(DiskError, match=f"{mine} is not the disk of {spec.id}, so it is not removed"):
        await disks.remove(volumes, spec.id)
    wrong.rename(mine)
    (volumes / spec.id / "a hand's").touch()
    with pytest.raises(DiskError, match=f"{volumes}/{spec.id} is not empty"):
        await disks.remove(volumes, spec.id)
    (volumes / spec.id / "a hand's").unlink()
    await disks.remove(volumes, spec.id)
    assert disks.ids(volumes) == {other.id}
    volumes.chmod(0o777)
    with pytest.raises(DiskError, match=f"Others may write to {volumes}: make it root's alone"):
        await disks.mount(volumes, spec.id)
    volumes.chmod(0o755)


async def test_whatever_is_killed_goes_on_where_it_was(small: Specify, volumes: Path) -> None:
    draw = random.Random(SEED)  # noqa: S311
    spec = small()
    disk = spec.disk
    assert disk is not None
    for number in range(40):
        larger = replace(disk, mib=64 + 16 * (number // 4))
        work = begin(draw.choice([Verb.MAKE, Verb.MAKE, Verb.REMOVE]), larger)
        await asyncio.sleep(draw.random() * 0.08)
        # The script and all that it has begun.
        os.killpg(work.pid, signal.SIGKILL)
        work.wait()
    last = replace(disk, mib=256)
    assert begin(Verb.MAKE, last).wait() == 0
    use = disks.use(volumes, spec.id)
    assert use is not None
    assert use.size > 200 << 20
    assert len(attached(volumes)) == 1
    about = (volumes / spec.id / "data").stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o7777) == (1000, 1000, 0o700)
    await disks.remove(volumes, spec.id)
    assert list(volumes.iterdir()) == []
    assert attached(volumes) == {}


async def test_many_at_once_are_made_one_after_the_other(small: Specify, volumes: Path) -> None:
    specs = [small() for _ in range(4)]
    works = [begin(Verb.MAKE, spec.disk) for spec in [*specs, *specs] if spec.disk is not None]
    assert [work.wait() for work in works] == [0] * 8
    assert len(attached(volumes)) == 4
    assert all(disks.is_mounted(volumes, spec.id) for spec in specs)


def begin(verb: Verb, disk: Disk) -> subprocess.Popen[str]:
    """The script at work, in a process group of its own."""
    work = subprocess.Popen(
        ["/bin/sh", "-c", render(verb)],
        env={**os.environ, **disk.environment},
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert work.stdin is not None
    work.stdin.write(SCRIPT)
    work.stdin.close()
    return work
