"""A PostgreSQL that only reads, as after a fail-over, and one that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from bot.store import Database
from bot.store.tables import Counter
from tests.postgres import PostgresCluster


@pytest.fixture
async def postgresql(postgres: PostgresCluster) -> AsyncIterator[Database]:
    """A database of the newest schema."""
    async with postgres.new_database() as url:
        database = Database(url)
        await database.migrate()
        try:
            yield database
        finally:
            await database.close()


async def add(database: Database, name: str) -> None:
    async with database.write() as session:
        await session.execute(insert(Counter).values(name=name, value=0))


async def test_a_server_that_only_reads_is_told_once_until_it_writes(
    postgres: PostgresCluster, postgresql: Database
) -> None:
    name = postgresql.url.database
    await postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    # Sessions keep what they began with.
    await postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
    with capture_logs() as logs:
        for number in range(3):
            with pytest.raises(DBAPIError):
                await add(postgresql, f"refused-{number}")
        assert "read-only" in str(postgresql.trouble.reason)
        await postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        async with asyncio.timeout(30):
            await postgresql.trouble.wait_over(60)
        assert postgresql.trouble.reason is None
        await add(postgresql, "taken")
    assert [line["log_level"] for line in logs] == ["error", "warning"]
    async with postgresql.read() as session:
        assert await session.get(Counter, "taken") is not None
        assert await session.scalar(select(Counter.name).where(Counter.name.startswith("refused"))) is None


async def test_a_server_that_is_away_is_trouble_and_a_mistake_is_none(postgresql: Database) -> None:
    await add(postgresql, "twice")
    with pytest.raises(DBAPIError):
        await add(postgresql, "twice")
    assert postgresql.trouble.reason is None
    away = Database("postgresql+asyncpg://nobody@127.0.0.1:9/zaki")
    with pytest.raises(OSError, match="9"):
        await away.ping()
    assert away.trouble.reason is not None
    await away.close()
