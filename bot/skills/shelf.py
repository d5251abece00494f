"""The files of skills below `STATE/skills`, each named by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}\Z")


class Shelf:
    """Whole files, or none: what is put is on the disk before it has its name.

    All of it blocks; call it in a thread.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "skills"

    def path(self, archive: str) -> Path:
        """Where an archive is, if it is kept; `archive` is its SHA-256 in hex."""
        if not _NAME.match(archive):
            raise ValueError(f"{archive!r} is no SHA-256")
        return self._folder / archive[:2] / f"{archive}.zip"

    def holds(self, archive: str) -> bool:
        """Whether it is kept."""
        return self.path(archive).is_file()

    def put(self, content: bytes) -> str:
        """Keep the content; its name. Raises OSError where the disk is full."""
        archive = hashlib.sha256(content).hexdigest()
        target = self.path(archive)
        self._make(target.parent)
        with self.incoming() as partial:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.chmod(0o640)
            partial.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return archive

    def find(self, archive: str) -> Path:
        """Where it is kept, whole; raises FileNotFoundError where it is not, or is not what it was."""
        path = self.path(archive)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != archive:
            self.discard(archive)
            raise FileNotFoundError(f"{archive} changed on the disk")
        return path

    def discard(self, archive: str) -> None:
        """Keep it no longer."""
        self.path(archive).unlink(missing_ok=True)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A file to write to, gone after the block unless it was moved."""
        folder = self._folder / "incoming"
        self._make(folder)
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a stop left half written."""
        folder = self._folder / "incoming"
        for path in folder.iterdir() if folder.is_dir() else ():
            path.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        # Where two system users share the state, its folder gives the group to what is made in it.
        self._folder.mkdir(mode=0o770, parents=True, exist_ok=True)
        folder.mkdir(mode=0o770, exist_ok=True)
