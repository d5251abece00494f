"""Whole transactions as one function: the same promises as the others, and in their turn."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from bot.store import Database
from bot.store.tables import Counter


async def _value(database: Database) -> int | None:
    return await database.read_short(lambda session: session.scalar(select(Counter.value)))


async def _start_at_zero(database: Database) -> None:
    await database.write_short(lambda session: session.execute(insert(Counter).values(name="tried", value=0)))


def _add_one(session: Session) -> None:
    session.execute(update(Counter).values(value=Counter.value + 1))


async def test_both_kinds_of_transaction_lose_nothing_of_each_other(database: Database) -> None:
    await _start_at_zero(database)

    async def add_one() -> None:
        async with database.write() as session:
            await session.execute(update(Counter).values(value=Counter.value + 1))

    await asyncio.gather(*(database.write_short(_add_one) if number % 2 else add_one() for number in range(40)))
    assert await _value(database) == 40


async def test_what_raises_changes_nothing(database: Database) -> None:
    await _start_at_zero(database)

    def fail(session: Session) -> None:
        _add_one(session)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await database.write_short(fail)
    assert await _value(database) == 0
    await database.write_short(_add_one)
    assert await _value(database) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_whoever_is_cancelled_leaves_no_transaction_open(database: Database) -> None:
    await _start_at_zero(database)

    def slow(session: Session) -> None:
        _add_one(session)
        time.sleep(0.2)

    task = asyncio.create_task(database.write_short(slow))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # It had begun, so it is done, and before anything that comes after it.
    assert await _value(database) == 1
    await database.write_short(_add_one)
    assert await _value(database) == 2
