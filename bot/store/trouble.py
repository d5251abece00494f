"""A database that cannot be used now: a full disk, a file that became read-only, a server that is away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError

_log = structlog.get_logger(__name__)

#: Seconds between two attempts to write while it is in trouble.
_PROBE_EVERY = 1.0
#: Primary result codes of SQLite: PERM, BUSY, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
_SQLITE = frozenset({3, 5, 8, 10, 11, 13, 14, 26})
#: READONLY, IOERR, CANTOPEN: a connection that met one of these stays so when the file is well again, as SQLite opens
#: a file that it may not write read-only.
_SQLITE_FOR_GOOD = frozenset({8, 10, 14})
#: PostgreSQL's SQLSTATE of a server, or a session, that only reads.
_READ_ONLY = "25006"
#: Its classes: no connection, no room, shut down, its own disk.
_POSTGRESQL = ("08", "53", "57P", "58", _READ_ONLY)


class Trouble:
    """Whether the database can be used; told in the log once when it begins and once when it is over.

    Whoever meets an error of the database while `reason` is set need not log it: that would be a line a request.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], every: float = _PROBE_EVERY) -> None:
        """`probe` raises unless something can be written; it is called until it does not."""
        self._probe = probe
        self._every = every
        self._over = asyncio.Event()
        self._over.set()
        self._probing: asyncio.Task[None] | None = None
        #: One phrase, or None: nothing is wrong.
        self.reason: str | None = None

    def note(self, error: BaseException) -> None:
        """Take notice of what a transaction raised; other errors than those of a database in trouble are nothing."""
        if self.reason is not None or not is_trouble(error):
            return
        self.reason = why(error)
        self._over.clear()
        _log.error(
            "the database cannot be used; messages wait, and all goes on by itself once it can be", reason=self.reason
        )
        self._probing = asyncio.get_running_loop().create_task(self._until_over())

    async def wait_over(self, longest: float) -> None:
        """Return when it is over, or after `longest` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._over.wait()

    async def close(self) -> None:
        """Look no longer."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def _until_over(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(self._every)
            try:
                await self._probe()
            except Exception as error:
                self.reason = why(error)
                continue
            self.reason = None
            self._over.set()
            _log.warning("the database can be used again", after_seconds=round(time.monotonic() - began, 1))
            return


def is_trouble(error: BaseException) -> bool:
    """Whether an error is the database's state, not a mistake of the statement's."""
    if isinstance(error, OSError):
        # A server that refuses the connection; the driver does not wrap it.
        return True
    if not isinstance(error, DBAPIError) or isinstance(
        error, IntegrityError | DataError | ProgrammingError | NotSupportedError
    ):
        return False
    code = _sqlite_code(error.orig)
    if code is not None:
        return code in _SQLITE
    state = getattr(error.orig, "sqlstate", None)
    return str(state).startswith(_POSTGRESQL) if state else error.connection_invalidated


def is_for_good(error: BaseException | None) -> bool:
    """Whether a connection is of no use after this error of the driver's."""
    return _sqlite_code(error) in _SQLITE_FOR_GOOD or getattr(error, "sqlstate", None) == _READ_ONLY


def why(error: BaseException) -> str:
    """The driver's words: without the statement's parameters, which hold what people wrote."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return f"{said}".strip().partition("\n")[0] or type(error).__name__


def _sqlite_code(error: BaseException | None) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
