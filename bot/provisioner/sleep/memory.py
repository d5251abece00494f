"""The memory of one container: what it holds, and giving it back to swap."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from dataclasses import dataclass
from pathlib import Path

from bot.provisioner.containers import Process

#: Seconds that giving memory back may take: a gigabyte takes one or two, and several times that on a busy machine.
RECLAIM_WITHIN = 20.0
#: The kernel may end early with memory left that the next try gets; a try that gets less than this was the last.
_WORTH_ANOTHER = 1 << 20
_TRIES = 8
#: Seconds that a killed writer may take to leave the kernel.
_KILLED_WITHIN = 2.0
#: What the kernel answers when it got less than it was asked for, and when it was interrupted: neither is a refusal.
_PARTLY = (errno.EAGAIN, errno.EINTR, errno.EBUSY)
#: Writes a word into a file; ends with the kernel's error, which a shell would not tell.
_WRITE = """\
import os, sys
try:
    os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())
except OSError as error:
    sys.exit(error.errno)
"""


class MemoryUnreachable(Exception):
    """A container's memory cannot be seen or reclaimed from here; the message says why and what to do."""


@dataclass(frozen=True)
class MemoryUse:
    """What a container has."""

    #: In memory, what the kernel keeps for it included.
    resident_bytes: int
    swapped_bytes: int
    #: Of memory alone; None where there is none.
    limit_bytes: int | None
    #: Of what is in memory: copies of files, which the kernel takes back when it needs the room.
    cached_bytes: int = 0


@dataclass(frozen=True)
class Reclaimed:
    """What giving memory back came to."""

    before_bytes: int
    after_bytes: int
    seconds: float


@dataclass(frozen=True)
class ContainerMemory:
    """The memory of one container, through the files of its control group (version 1 or 2)."""

    folder: Path
    unified: bool

    @classmethod
    def of(cls, process: Process, proc: Path = Path("/proc")) -> ContainerMemory:
        """The group that the container's first process is in, wherever its daemon has put it.

        Raises :class:`MemoryUnreachable`, also where the process has ended and its number is another's now.
        """
        try:
            groups = (proc / str(process.pid) / "cgroup").read_text()
            mounts = (proc / "self" / "mountinfo").read_text()
        except OSError:
            raise MemoryUnreachable(f"The container {process.container[:12]} has no process on this machine.") from None
        found = _memory_group(groups, mounts)
        if found is None:
            raise MemoryUnreachable("This machine mounts no control groups for memory; mount them at /sys/fs/cgroup.")
        folder, unified = found
        if process.container not in str(folder):
            raise MemoryUnreachable(f"The container {process.container[:12]} is not in a control group of its own.")
        return cls(folder, unified)

    def usage(self) -> MemoryUse:
        """What it has now. Raises :class:`MemoryUnreachable`."""
        statistics = dict(line.split(" ", 1) for line in self._read("memory.stat").splitlines())
        kinds = ("inactive_file", "active_file") if self.unified else ("total_inactive_file", "total_active_file")
        cached = sum(int(statistics.get(kind, 0)) for kind in kinds)
        if self.unified:
            return MemoryUse(
                self._number("memory.current"),
                self._number("memory.swap.current", 0),
                self._limit("memory.max"),
                cached,
            )
        return MemoryUse(
            self._number("memory.usage_in_bytes"),
            # Without accounting of swap there is no such line.
            int(statistics.get("total_swap", 0)),
            self._limit("memory.limit_in_bytes"),
            cached,
        )

    async def reclaim(self, within: float = RECLAIM_WITHIN) -> Reclaimed:
        """Give all of it back that can go, anonymous memory to swap; for a container that is paused.

        What went until then counts where it takes longer than `within` seconds. Raises :class:`MemoryUnreachable`.
        """
        began = time.monotonic()
        before = left = self.usage().resident_bytes
        try:
            async with asyncio.timeout(within):
                for _ in range(_TRIES):
                    await self._ask_for(left)
                    previous, left = left, self.usage().resident_bytes
                    if previous - left < _WORTH_ANOTHER:
                        break
        except TimeoutError:
            left = self.usage().resident_bytes
        return Reclaimed(before, left, time.monotonic() - began)

    async def _ask_for(self, count: int) -> None:
        """One request to the kernel, made by a process of its own: only a signal ends it before it is through."""
        file, word = ("memory.reclaim", str(count)) if self.unified else ("memory.force_empty", "0")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _WRITE, str(self.folder / file), word),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        try:
            error = await process.wait()
        except BaseException:
            process.kill()
            # One that a broken disk holds in the kernel cannot be killed: it is left there.
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.wait([waiting], timeout=_KILLED_WITHIN)
            waiting.cancel()
            raise
        if error and error not in _PARTLY:
            reason = os.strerror(error) if error > 0 else "its writer was killed"
            raise MemoryUnreachable(f"The kernel did not give memory back ({reason}): only root may ask for it.")

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except OSError as error:
            what = "ended" if error.errno in (errno.ENOENT, errno.ENODEV) else f"cannot be read ({error.strerror})"
            raise MemoryUnreachable(f"The control group {self.folder} {what}.") from None

    def _number(self, name: str, default: int | None = None) -> int:
        if default is not None and not (self.folder / name).exists():
            return default
        return int(self._read(name))

    def _limit(self, name: str) -> int | None:
        """A limit; version 1 writes "none" as the largest number of pages there is."""
        text = self._read(name).strip()
        return None if text == "max" or int(text) >= 1 << 62 else int(text)


def _memory_group(groups: str, mounts: str) -> tuple[Path, bool] | None:
    """Folder of the group that holds a process's memory, and whether it is of version 2.

    `groups` is /proc/PID/cgroup, `mounts` /proc/self/mountinfo. Where both versions are mounted, memory is in one.
    """
    paths: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for kind, controller in (("cgroup", "memory"), ("cgroup2", "")):
        if controller not in paths:
            continue
        path = paths[controller]
        for line in mounts.splitlines():
            fields, _, rest = line.partition(" - ")
            type_, _, options = rest.split(" ", 2)
            if type_ != kind or (kind == "cgroup" and "memory" not in options.split(" ")[-1].split(",")):
                continue
            root, point = fields.split(" ")[3:5]
            if root == "/" or path == root or path.startswith(root + "/"):
                below = path if root == "/" else path.removeprefix(root)
                return Path(point) / below.lstrip("/"), kind == "cgroup2"
    return None
