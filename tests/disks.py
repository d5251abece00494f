"""A small file system of a test's own, for what happens when it is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A mounted file system of `mib` MiB below `folder` during the block."""
    if os.geteuid() != 0:
        pytest.fail("A full disk is a mounted one: run this test as root.", pytrace=False)
    image, mounted = folder / "disk.img", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(mib * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["chattr", "-R", "-i", mounted], check=False)
        subprocess.run(["umount", "--lazy", mounted], check=True)


def fill(disk: Path) -> Path:
    """A file that takes what room there is, to the last block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 512):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler
