"""Disks of instances on this machine: mounted before a start, grown, removed, and how full they are.

What is mounted is never looked into: a tenant decides about all that is there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

from infra.disk import SCRIPT, Disk, Verb, render
from infra.spec import is_instance_id

#: Percent of the space, or of the files, from which nothing of any size fits any more.
FULL = 99
#: Seconds that making, growing, mounting or removing one may take.
_PATIENCE = 120.0


class DiskError(Exception):
    """A disk cannot be mounted, grown or removed; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class DiskUse:
    """How full a disk is."""

    #: Bytes that its instance may have, and has.
    size: int
    used: int
    #: Files, folders and links that its instance may have, and has.
    most_files: int
    files: int

    @property
    def percent(self) -> int:
        """Of the space or of the files, whichever is the fuller."""
        return max(_percent(self.used, self.size), _percent(self.files, self.most_files))

    @property
    def short_of(self) -> str:
        """Which of the two that is: `space` or `files`."""
        space, files = _percent(self.used, self.size), _percent(self.files, self.most_files)
        return "space" if space >= files else "files"

    @property
    def is_full(self) -> bool:
        """Whether its instance can keep nothing new."""
        return self.percent >= FULL

    def __str__(self) -> str:
        return (
            f"{self.used >> 20} of {self.size >> 20} MiB ({_percent(self.used, self.size)} %), "
            f"{self.files} of {self.most_files} files ({_percent(self.files, self.most_files)} %)"
        )


async def keep(disk: Disk) -> None:
    """Bring a disk that was made to its size, and mount it; raises :class:`DiskError`."""
    await _run(Verb.KEEP, disk)


async def mount(volumes: Path | str, instance_id: str) -> None:
    """Mount a disk that was made, unless it is mounted; raises :class:`DiskError`."""
    if not is_mounted(volumes, instance_id):
        await _run(Verb.MOUNT, _any_size(volumes, instance_id))


async def remove(volumes: Path | str, instance_id: str) -> None:
    """Unmount and remove a disk with all that is in it; none is fine. Raises :class:`DiskError`."""
    if exists(volumes, instance_id):
        await _run(Verb.REMOVE, _any_size(volumes, instance_id))


def exists(volumes: Path | str, instance_id: str) -> bool:
    """Whether there is anything of an instance's disk."""
    return instance_id in ids(volumes)


def has_file(volumes: Path | str, instance_id: str) -> bool:
    """Whether there is the file that holds an instance's disk."""
    return Path(volumes, f"{instance_id}.img").exists()


def ids(volumes: Path | str) -> set[str]:
    """Instances of which there is a disk, or what is left of one."""
    folder = Path(volumes)
    # A half-made one is a draft, whose name begins with a dot.
    names = {path.name.removeprefix(".").partition(".")[0] for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if is_instance_id(name)}


def is_mounted(volumes: Path | str, instance_id: str) -> bool:
    """Whether the disk is mounted where the instance's volume looks for it."""
    return Path(volumes, instance_id).is_mount()


def use(volumes: Path | str, instance_id: str) -> DiskUse | None:
    """How full the disk is, without a look into it; None where it is not mounted, or cannot be asked."""
    try:
        if not is_mounted(volumes, instance_id):
            return None
        found = os.statvfs(Path(volumes, instance_id))
    except OSError:
        return None
    block = found.f_frsize
    # What the file system holds back counts neither as used nor as the instance's.
    used = (found.f_blocks - found.f_bfree) * block
    return DiskUse(used + found.f_bavail * block, used, found.f_files, found.f_files - found.f_ffree)


def can_mount() -> bool:
    """Whether this process may do as root, itself or by sudo without a password."""
    if os.geteuid() == 0:
        return True
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def _any_size(volumes: Path | str, instance_id: str) -> Disk:
    if not is_instance_id(instance_id):
        raise ValueError(f"{instance_id!r} is no instance's id")
    return Disk(instance_id, str(volumes), 0, 0)


async def _run(verb: Verb, disk: Disk) -> None:
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", render(verb)),
        env={**os.environ, **disk.environment},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        # A signal to the service must not cut it short.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            _, said = await process.communicate(SCRIPT.encode())
    except TimeoutError:
        raise DiskError(
            f"The disk of {disk.instance} is still being worked on after {_PATIENCE:.0f} seconds; it is tried again."
        ) from None
    if process.returncode != 0:
        lines = said.decode(errors="replace").strip().splitlines()
        raise DiskError(lines[-1] if lines else f"The disk of {disk.instance} cannot be worked on; look at dmesg.")


def _percent(part: int, whole: int) -> int:
    return 100 * part // whole if whole else 0
