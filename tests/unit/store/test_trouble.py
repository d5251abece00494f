"""Which errors are the database's state, and that it is told once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError
from structlog.testing import capture_logs

from bot.store.trouble import Trouble, is_for_good, is_trouble, why


class _Refused(Exception):
    """As PostgreSQL's driver says it."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("no")
        self.sqlstate = sqlstate


def sqlite(code: int) -> OperationalError:
    """An error of SQLite with this extended result code."""
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    return OperationalError("INSERT secret", {"text": "secret"}, error)


def postgresql(sqlstate: str | None, *, gone: bool = False) -> DBAPIError:
    return DBAPIError("INSERT secret", {}, _Refused(sqlstate), connection_invalidated=gone)


@pytest.mark.parametrize(
    "error",
    [
        *(sqlite(code) for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_IOERR_WRITE)),
        *(sqlite(code) for code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)),
        *(postgresql(state) for state in ("53100", "25006", "57P01", "08006", "58030")),
        postgresql(None, gone=True),
        ConnectionRefusedError(111, "refused"),
    ],
    ids=str,
)
def test_the_databases_state_is_trouble(error: Exception) -> None:
    assert is_trouble(error)
    assert "secret" not in why(error)
    assert why(error)


@pytest.mark.parametrize(
    "error",
    [
        sqlite(sqlite3.SQLITE_ERROR),
        IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE")),
        postgresql("40P01"),
        postgresql(None),
        InvalidRequestError("a mistake"),
        ValueError("a mistake"),
    ],
    ids=str,
)
def test_a_mistake_of_ours_is_no_trouble(error: Exception) -> None:
    assert not is_trouble(error)


def test_a_connection_that_only_reads_is_of_no_use() -> None:
    assert is_for_good(sqlite(sqlite3.SQLITE_READONLY).orig)
    assert is_for_good(_Refused("25006"))
    assert not is_for_good(sqlite(sqlite3.SQLITE_FULL).orig)
    assert not is_for_good(_Refused("53100"))


async def test_it_is_told_once_and_ends_when_something_can_be_written(tmp_path: Path) -> None:
    room = tmp_path / "room"

    async def probe() -> None:
        if not room.exists():
            raise OSError(28, "no room yet")

    with capture_logs() as logs:
        trouble = Trouble(probe, every=0.01)
        for _ in range(3):
            trouble.note(sqlite(sqlite3.SQLITE_FULL))
        assert trouble.reason == "what SQLite says"
        await until(lambda: trouble.reason == "[Errno 28] no room yet")
        room.touch()
        async with asyncio.timeout(10):
            await trouble.wait_over(60)
        assert trouble.reason is None
    assert [line["log_level"] for line in logs] == ["error", "warning"]
    await trouble.close()


async def test_whoever_waits_waits_no_longer_than_asked() -> None:
    async def probe() -> None:
        raise OSError(28, "never")

    trouble = Trouble(probe, every=60)
    await trouble.wait_over(60)
    trouble.note(sqlite(sqlite3.SQLITE_FULL))
    await trouble.wait_over(0.01)
    assert trouble.reason is not None
    await trouble.close()


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.01)
