"""Where a container's memory is found, and what is done with it, on trees like the kernel's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bot.provisioner.containers import Process
from bot.provisioner.sleep.memory import ContainerMemory, MemoryUnreachable, MemoryUse

CONTAINER = "a6fa5aba53f6" + "0" * 52
PROCESS = Process(CONTAINER, 4242)

V1_MOUNTS = """\
31 23 0:28 / {tree} rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 {root} {tree}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 31 0:33 / {tree}/devices rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / {tree}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "29 23 0:26 {root} {tree} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


class Tree:
    """A machine's /proc, and a control group with files."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.tree = folder / "cgroup"

    def machine(self, mounts: str, groups: str, root: str = "/") -> None:
        for name, text in {"self/mountinfo": mounts.format(tree=self.tree, root=root), "4242/cgroup": groups}.items():
            (self.proc / name).parent.mkdir(parents=True, exist_ok=True)
            (self.proc / name).write_text(text)

    def group(self, path: str, **files: str) -> Path:
        folder = self.tree / path
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder

    def find(self) -> ContainerMemory:
        return ContainerMemory.of(PROCESS, self.proc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


V1 = {
    "memory__usage_in_bytes": "1100000000\n",
    "memory__limit_in_bytes": "2147483648\n",
    "memory__stat": (
        "cache 5\nrss 7\nswap 3\ntotal_cache 50\ntotal_swap 870000000\ntotal_inactive_file 40\ntotal_active_file 10\n"
    ),
}
V2 = {
    "memory__current": "1100000000\n",
    "memory__swap__current": "870000000\n",
    "memory__max": "2147483648\n",
    "memory__stat": "anon 7\nfile 50\ninactive_file 40\nactive_file 10\n",
}
USE = MemoryUse(1_100_000_000, 870_000_000, 2_147_483_648, cached_bytes=50)


@pytest.mark.parametrize(
    ("mounts", "groups", "root", "folder", "files"),
    [
        (V1_MOUNTS, f"9:name=systemd:/\n4:memory:/docker/{CONTAINER}\n0::/\n", "/", f"memory/docker/{CONTAINER}", V1),
        (V1_MOUNTS, f"4:devices,memory:/outer/docker/{CONTAINER}\n", "/outer", f"memory/docker/{CONTAINER}", V1),
        (V2_MOUNTS, f"0::/docker/{CONTAINER}\n", "/", f"docker/{CONTAINER}", V2),
        (
            V2_MOUNTS,
            f"0::/system.slice/docker-{CONTAINER}.scope\n",
            "/",
            f"system.slice/docker-{CONTAINER}.scope",
            V2,
        ),
        (V2_MOUNTS, f"0::/outer/docker/{CONTAINER}\n", "/outer", f"docker/{CONTAINER}", V2),
    ],
    ids=["v1", "v1 in a nested daemon", "v2 with cgroupfs", "v2 with systemd", "v2 in a nested daemon"],
)
def test_memory_is_found_where_the_daemon_has_put_it(
    tree: Tree, mounts: str, groups: str, root: str, folder: str, files: dict[str, str]
) -> None:
    tree.machine(mounts, groups, root)
    tree.group(folder, **files)
    assert tree.find().usage() == USE


def test_container_without_limits_or_accounting_of_swap_is_read_too(tree: Tree) -> None:
    tree.machine(V1_MOUNTS, f"4:memory:/docker/{CONTAINER}\n")
    tree.group(
        f"memory/docker/{CONTAINER}",
        memory__usage_in_bytes="5\n",
        memory__limit_in_bytes="9223372036854771712\n",
        memory__stat="cache 5\n",
    )
    assert tree.find().usage() == MemoryUse(5, 0, None)
    tree.machine(V2_MOUNTS, f"0::/docker/{CONTAINER}\n")
    tree.group(f"docker/{CONTAINER}", memory__current="5\n", memory__max="max\n", memory__stat="anon 5\n")
    assert tree.find().usage() == MemoryUse(5, 0, None)


def test_group_of_another_process_is_never_taken(tree: Tree) -> None:
    tree.machine(V2_MOUNTS, "0::/system.slice/sshd.service\n")
    with pytest.raises(MemoryUnreachable, match="not in a control group of its own"):
        tree.find()


def test_container_that_ended_or_lives_elsewhere_is_one_sentence(tree: Tree) -> None:
    with pytest.raises(MemoryUnreachable, match=r"a6fa5aba53f6 has no process on this machine\."):
        tree.find()
    tree.machine(V2_MOUNTS, f"0::/docker/{CONTAINER}\n")
    with pytest.raises(MemoryUnreachable, match="ended"):
        tree.find().usage()


class Kernel(ContainerMemory):
    """A group from which each request takes a part of the memory away, until nothing more goes."""

    async def _ask_for(self, count: int) -> None:
        await super()._ask_for(count)
        request = self.folder / "memory.reclaim"
        with (self.folder / "asked").open("a") as asked:
            asked.write(request.read_text() + " ")
        request.write_text("")
        left = self.folder / "left"
        now, *later = left.read_text().split()
        (self.folder / "memory.current").write_text(f"{now}\n")
        left.write_text(" ".join(later or [now]))


async def test_reclaim_asks_again_while_memory_goes(tree: Tree) -> None:
    folder = tree.group(
        CONTAINER, memory__current="900000000\n", memory__max="max\n", memory__stat="anon 5\n", memory__reclaim=""
    )
    (folder / "left").write_text("90000000 27000000")
    done = await Kernel(folder, unified=True).reclaim()
    assert (done.before_bytes, done.after_bytes) == (900_000_000, 27_000_000)
    # For all that is left each time, until nothing more goes.
    assert (folder / "asked").read_text().split() == ["900000000", "90000000", "27000000"]


async def test_version_1_is_told_to_empty_the_group(tree: Tree) -> None:
    folder = tree.group(CONTAINER, memory__force_empty="", **V1)
    await ContainerMemory(folder, unified=False).reclaim()
    assert (folder / "memory.force_empty").read_text() == "0"


async def test_reclaim_that_hangs_in_the_kernel_ends_in_time(tree: Tree) -> None:
    folder = tree.group(CONTAINER, memory__current="900000000\n", memory__max="max\n", memory__stat="anon 5\n")
    # Nobody reads this pipe, so the writer waits for ever.
    os.mkfifo(folder / "memory.reclaim")
    async with asyncio.timeout(30):
        done = await ContainerMemory(folder, unified=True).reclaim(within=0.1)
    assert done.after_bytes == 900_000_000


async def test_refusal_of_the_kernel_is_told(tree: Tree) -> None:
    folder = tree.group(CONTAINER, memory__current="900000000\n", memory__max="max\n", memory__stat="anon 5\n")
    (folder / "memory.reclaim").mkdir()
    with pytest.raises(MemoryUnreachable, match=r"did not give memory back .*: only root may ask for it\."):
        await ContainerMemory(folder, unified=True).reclaim()
