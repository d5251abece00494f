"""Connections and transactions, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from bot.store.trouble import Trouble, is_for_good

#: Any fixed number: PostgreSQL's advisory lock under which migrations run.
_MIGRATION_LOCK = 7_301_129
#: Threads for SQLite's short transactions: one writes, the others read.
_THREADS = 3

#: Bytes of room below which a full disk counts as full until somebody frees some.
_ROOM = 4 * 2**20
_TRY = text(
    "INSERT INTO counters (name, value) VALUES ('recoveries', 1)"
    " ON CONFLICT (name) DO UPDATE SET value = counters.value + 1"
)

Result = TypeVar("Result")


def now() -> float:
    """Unix time, seconds."""
    return time.time()


class Database:
    """Sessions on one database. `write` takes SQLite's write lock at its beginning, `read` never does.

    With SQLAlchemy's defaults a SQLite transaction that reads and then writes can lose its update without an error; so
    the driver's own transactions are off and each writing transaction begins with BEGIN IMMEDIATE.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite and self.url.database not in (None, "", ":memory:"):
            _make_folder(Path(str(self.url.database)).parent)
        self._engine = create_async_engine(self.url, pool_pre_ping=not self.sqlite)
        self._short = _ShortTransactions(self.url.set(drivername="sqlite")) if self.sqlite else None
        if self.sqlite:
            _prepare_sqlite(self._engine.sync_engine)
        else:
            _lose_what_stays_broken(self._engine.sync_engine)
        self._write = async_sessionmaker(self._engine, expire_on_commit=False)
        # SQLite has one writer: its own waiting is a sleep of up to 100 ms, and whoever comes later may go first.
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self.sqlite else nullcontext()
        self._read = async_sessionmaker(self._engine.execution_options(zaki_read=True), expire_on_commit=False)
        #: Whether it can be used now.
        self.trouble = Trouble(self._try_to_write)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction that commits at the end of the block, and rolls back when the block raises.

        Do not open a second one inside the block: it would wait for the first.
        """
        try:
            async with self._write() as session, self._turn, session.begin():
                yield session
        except Exception as error:
            self.trouble.note(error)
            raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A snapshot to read from."""
        try:
            async with self._read() as session, session.begin():
                yield session
        except Exception as error:
            self.trouble.note(error)
            raise

    async def write_short(self, work: Callable[[Session], Result]) -> Result:
        """A writing transaction on the hot path, as one function: see :meth:`read_short`."""
        if self._short is None:
            async with self.write() as session:
                return await session.run_sync(work)
        try:
            async with self._turn:
                return await self._short.run(work, write=True)
        except Exception as error:
            self.trouble.note(error)
            raise

    async def read_short(self, work: Callable[[Session], Result]) -> Result:
        """A reading transaction on the hot path, as one function that awaits nothing.

        Under SQLite each statement of an asynchronous session is several trips to another thread, which take longer
        than the statement; this is one trip in all.
        """
        if self._short is None:
            async with self.read() as session:
                return await session.run_sync(work)
        try:
            return await self._short.run(work, write=False)
        except Exception as error:
            self.trouble.note(error)
            raise

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def migrate(self) -> None:
        """Bring the schema to the newest version; safe when several processes start at once."""
        async with self._engine.connect() as connection:
            if not self.sqlite:
                await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
                await connection.commit()
            try:
                await connection.run_sync(_upgrade)
                await connection.commit()
            finally:
                if not self.sqlite:
                    await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _MIGRATION_LOCK})
                    await connection.commit()

    async def _try_to_write(self) -> None:
        """Raise unless there is room, and something can be committed."""
        if self.sqlite and self.url.database:
            free = shutil.disk_usage(Path(self.url.database).parent).free
            if free < _ROOM:
                # A page may still fit where the next batch does not.
                raise OSError(errno.ENOSPC, f"database or disk is full: {free / 2**20:.1f} MiB left")
        async with self._write() as session, self._turn, session.begin():
            await session.execute(_TRY)

    async def close(self) -> None:
        """Close all connections."""
        await self.trouble.close()
        if self._short is not None:
            await asyncio.to_thread(self._short.close)
        await asyncio.shield(self._engine.dispose())


class _ShortTransactions:
    """Runs whole transactions on SQLite in threads of its own."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url)
        _prepare_sqlite(self._engine)
        self._reading = self._engine.execution_options(zaki_read=True)
        self._threads = ThreadPoolExecutor(_THREADS, "zaki-sqlite")

    async def run(self, work: Callable[[Session], Result], *, write: bool) -> Result:
        """The result of the work, after the commit."""
        done = asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, work, write)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # Whoever writes next may only begin once this is over, for good or ill.
            await asyncio.wait([done])
            raise

    def close(self) -> None:
        """Wait for what runs, then close the connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def _transaction(self, work: Callable[[Session], Result], write: bool) -> Result:
        with Session(self._engine if write else self._reading, expire_on_commit=False) as session, session.begin():
            return work(session)


def _make_folder(folder: Path) -> None:
    """Make a database's folder where it is missing, as private as the keys'.

    In a folder that gives its group to what is made there, two system users share it.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    shared = _is_shared(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o770 if shared else 0o750)
        if shared:
            # Whatever the umask of who happens to be first.
            folder.chmod(0o2770)


def _make_file(path: Path) -> None:
    """Make a database's file where it is missing, with the mode that SQLite then gives to those beside it."""
    # SQLite itself says what is wrong where this cannot be done.
    with contextlib.suppress(OSError):
        shared = _is_shared(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660 if shared else 0o640)
        try:
            if shared:
                os.fchmod(descriptor, 0o660)
        finally:
            os.close(descriptor)


def _is_shared(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _lose_what_stays_broken(engine: Engine) -> None:
    @event.listens_for(engine, "handle_error")
    def lose(context: ExceptionContext) -> None:
        if is_for_good(context.original_exception):
            context.is_disconnect = True


def _prepare_sqlite(engine: Engine) -> None:
    _lose_what_stays_broken(engine)

    @event.listens_for(engine, "do_connect")
    def make_file(*_arguments: object) -> None:
        if engine.url.database not in (None, "", ":memory:"):
            _make_file(Path(str(engine.url.database)))

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=15000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "invalidate")
    def end_transaction(dbapi_connection: Any, _record: object, _error: BaseException | None) -> None:
        # SQLAlchemy closes the connection of a task that is cancelled in the middle of a statement. SQLite keeps one
        # whose statement has rows left until that is garbage, and with it the lock that everybody waits for.
        with contextlib.suppress(Exception, asyncio.CancelledError):
            dbapi_connection.rollback()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("zaki_read", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
