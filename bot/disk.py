"""Room on the disk, and leave to write: looked at before anything is begun, and whenever somebody asks."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bot.settings import Settings

MIB = 2**20
#: Bytes without which the service does not start and does not call itself ready.
ROOM = 16 * MIB
#: What a full or read-only file system says.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class CannotKeep(Exception):
    """What the service keeps cannot be written; the message names the folder or file, and what to do."""


def require_writable(settings: Settings) -> None:
    """Raise :class:`CannotKeep` unless the state folder and a SQLite database in it can be written; leaves no trace."""
    state = settings.state
    there = next(path for path in (state, *state.parents) if path.exists())
    for path in (there, *_kept(settings)):
        if not os.access(path, os.W_OK):
            raise CannotKeep(
                f"{path} cannot be written: mount it writable or give it to the user who runs Zaki, "
                "or set ZAKI_STATE to another folder."
            )
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(bytes(MIB))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise CannotKeep(
                f"{there} cannot be written ({error.strerror}); set ZAKI_STATE to another folder."
            ) from None
        raise CannotKeep(f"The disk of {there} is full; free {ROOM // MIB} MiB there, or move ZAKI_STATE.") from None
    lack = lack_of_room(there)
    if lack is not None:
        raise CannotKeep(f"The disk of {there} has {lack}; free {ROOM // MIB} MiB there, or move ZAKI_STATE.")


def lack_of_room(folder: Path) -> str | None:
    """A phrase that tells how little is left at an existing folder; None: enough."""
    free = shutil.disk_usage(folder).free
    return None if free >= ROOM else f"only {free / MIB:.1f} MiB left"


def _kept(settings: Settings) -> Iterator[Path]:
    """A SQLite database's folder and files, as far as they are there."""
    scheme, _, name = settings.effective_database_url.partition(":///")
    if not scheme.startswith("sqlite") or not name:
        return
    database = Path(name)
    for path in (database.parent, database, *(database.with_name(database.name + end) for end in ("-wal", "-shm"))):
        if path.exists():
            yield path
