"""Connections and transactions, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

#: Any fixed number: PostgreSQL's advisory lock under which migrations run.
_MIGRATION_LOCK = 7_301_129


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
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_async_engine(self.url, pool_pre_ping=not self.sqlite)
        if self.sqlite:
            _prepare_sqlite(self._engine.sync_engine)
        self._write = async_sessionmaker(self._engine, expire_on_commit=False)
        # SQLite has one writer: its own waiting is a sleep of up to 100 ms, and whoever comes later may go first.
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self.sqlite else nullcontext()
        self._read = async_sessionmaker(self._engine.execution_options(zaki_read=True), expire_on_commit=False)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction that commits at the end of the block, and rolls back when the block raises.

        Do not open a second one inside the block: it would wait for the first.
        """
        async with self._turn, self._write() as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A snapshot to read from."""
        async with self._read() as session, session.begin():
            yield session

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

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.shield(self._engine.dispose())


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=15000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("zaki_read", False)
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        # Past the cursors, whose making and closing would each be another trip to the connection's thread.
        driver: Any = connection.connection.dbapi_connection
        driver.run_async(lambda aiosqlite: aiosqlite.execute(begin))
