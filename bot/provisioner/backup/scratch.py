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


class FolderOfOthers(Exception):
    """A folder that shall be ours alone is another user's, or a link; the message names it and says what to do."""


@contextmanager
def own_folder(folder: Path) -> Iterator[int]:
    """A descriptor of a folder that is made where it is missing; raises :class:`FolderOfOthers`.

    Whoever else may write beside it could have put a folder of theirs there, or a link to where we may write.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileExistsError, NotADirectoryError):
        raise FolderOfOthers(f"{folder} is a link or a file; look at what it is, then remove it.") from None
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise FolderOfOthers(f"{folder} is of the user {found.st_uid}; look at what is in it, then remove it.")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(state: Path) -> Iterator[Path]:
    """An empty folder during the block, for this process alone.

    Raises:
        BackupRuns: Another process works in it.
        FolderOfOthers: It is not ours.
    """
    folder = state / FOLDER
    with own_folder(folder) as descriptor:
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


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
