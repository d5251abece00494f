"""The folder below the state folder in which one backup at a time is prepared."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = ".backup"


class BackupRuns(Exception):
    """Another backup of this state folder is being made; try again when it is done."""


@contextmanager
def scratch_folder(state: Path) -> Iterator[Path]:
    """An empty folder during the block, for this process alone; raises :class:`BackupRuns`."""
    folder = state / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupRuns("Another backup is being made; try again when it is done.") from None
        # What a killed one left may be somebody's files.
        _empty(folder)
        try:
            yield folder
        finally:
            _empty(folder)
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
