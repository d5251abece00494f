"""Files that wait for Telegram, on disk until they are sent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from bot.front.telegram import Upload

#: What Telegram takes from a bot, bytes.
LARGEST_FILE = 50 * 2**20
#: What an instance may have waiting, bytes.
LARGEST_SHARE = 200 * 2**20


class SpoolFull(Exception):
    """The file is larger than Telegram takes, or the instance's share of the spool is used up."""


class Spool:
    """The folder `STATE/spool`; a file's name starts with the instance that it came from."""

    def __init__(self, folder: Path, largest_file: int = LARGEST_FILE, largest_share: int = LARGEST_SHARE) -> None:
        self.folder = folder
        self._largest_file = largest_file
        self._largest_share = largest_share
        #: Bytes of each file that this process knows, and of each instance.
        self._sizes: dict[str, int] = {}
        self._used: Counter[str] = Counter()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, instance_id: str) -> SpooledFile:
        """A new empty file of the instance's, mode 0600."""
        path = self.folder / f"{instance_id}.{secrets.token_hex(16)}"
        # Known before it is there, or a sweep could take it for an orphan.
        self._sizes[path.name] = 0
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            self._sizes.pop(path.name)
            raise
        return SpooledFile(self, path, os.fdopen(descriptor, "wb"))

    def reserve(self, name: str, more: int) -> None:
        """Count `more` bytes for a file that is being written; raises :class:`SpoolFull`."""
        if self._sizes[name] + more > self._largest_file or self._used[_owner(name)] + more > self._largest_share:
            raise SpoolFull
        self._count(name, more)

    def size(self, name: str) -> int:
        """Bytes of a file that this process knows."""
        return self._sizes[name]

    def sync_folder(self) -> None:
        """Make the names of new files survive a crash."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self, paths: Iterable[Path]) -> None:
        """Remove files that are sent or given up; one that is gone already is no error."""
        for path in paths:
            path.unlink(missing_ok=True)
            self._used[_owner(path.name)] -= self._sizes.pop(path.name, 0)

    def sweep(self, wanted: Collection[str]) -> int:
        """Remove what an earlier process left and no waiting message wants, count the rest; how many were removed."""
        removed = 0
        for path in self.folder.iterdir():
            if path.name in self._sizes:
                continue
            if path.name in wanted:
                self._count(path.name, path.stat().st_size)
            else:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _count(self, name: str, more: int) -> None:
        self._sizes[name] = self._sizes.get(name, 0) + more
        self._used[_owner(name)] += more


class SpooledFile:
    """A file being written."""

    def __init__(self, spool: Spool, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._spool = spool
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._spool.size(self.path.name)

    @property
    def sha256(self) -> str:
        """SHA-256 of what is written so far, hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append; raises :class:`SpoolFull`."""
        self._spool.reserve(self.path.name, len(data))
        self._file.write(data)
        self._digest.update(data)

    def close(self) -> None:
        """End the file, on disk for good."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Remove the file, however far it is written."""
        try:
            # On a full disk even closing fails, as it writes what is buffered.
            with contextlib.suppress(OSError):
                self._file.close()
        finally:
            self._spool.discard([self.path])


def note_of(file: Upload) -> dict[str, Any]:
    """A spooled file as a row keeps it."""
    return {
        "field": file.field,
        "path": file.path.name,
        "filename": file.filename,
        "content_type": file.content_type,
        "size": file.size,
    }


def upload_of(note: Mapping[str, Any], folder: Path) -> Upload:
    """The spooled file that a row tells of."""
    return Upload(
        field=str(note["field"]),
        path=folder / Path(str(note["path"])).name,
        filename=str(note["filename"]),
        content_type=str(note["content_type"]),
        size=int(note["size"]),
    )


def _owner(name: str) -> str:
    return name.partition(".")[0]
