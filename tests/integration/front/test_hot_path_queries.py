"""Adding user 1,000 costs what user 1 did: nothing on the hot path reads through a whole table."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from bot.front import router
from bot.front.context import FrontContext
from bot.front.handovers import Handover, record
from bot.front.inbox import IS_PENDING, Inbox
from bot.front.updates import read_update
from bot.front.view import look
from bot.store import Database
from bot.store.tables import InboxUpdate, UserStatus, Wish
from bot.users import people
from tests.updates import photo_message

ADA = 4711


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_statement_uses_an_index(context: FrontContext, database: Database) -> None:
    async with database.write() as session:
        user = await people.remember(session, ADA, "Ada")
        user.status = UserStatus.ACTIVE
    await Inbox(context, lambda _: None).store([read_update(photo_message(1, ADA, ["f"]))])

    def hot_path(session: Session) -> list[str]:
        said: list[tuple[str, Any]] = []
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: said.append((call[2], call[3])))
        view = look(session, [ADA])[0]
        assert view.row is not None
        assert view.user is not None
        record(session, [Handover(view.row, view.user)])
        statements = list(said)
        assert len(statements) >= 5
        plans = []
        for statement, parameters in statements:
            if statement.startswith(("SELECT", "UPDATE")):
                found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans += [f"{row[3]} :: {statement}" for row in found]
        return plans

    plans = await database.write_short(hot_path)
    assert any("inbox_pending" in plan for plan in plans)
    # What the first query ranks are one person's rows, found by the index.
    scans = [plan for plan in plans if plan.startswith("SCAN ") and "SCAN anon_" not in plan and "subquery" not in plan]
    assert scans == []
    async with database.read() as session:
        assert (await session.scalars(select(InboxUpdate.status))).all() == ["delivered"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_finding_work_after_a_start_reads_what_is_pending_alone(database: Database) -> None:
    async with database.read() as session:
        for query, index in (
            (select(InboxUpdate.telegram_id).where(IS_PENDING), "inbox_pending"),
            (select(Wish.user_id).where(router._IS_LEAVING), "wishes_absent"),
        ):
            statement = query.compile(dialect=sqlite.dialect())
            plan = (await session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))).all()
            assert index in plan[0][3]
