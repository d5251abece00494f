"""One commit, once, and nothing kept longer than needed."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, update

from bot.front.context import FrontContext
from bot.front.inbox import Inbox, InboxUnavailable
from bot.front.updates import read_update
from bot.store import Database, now
from bot.store.tables import InboxStatus, InboxUpdate, SeenFile, TimelineEntry
from bot.timeline import Stage, note
from tests.updates import person, photo_message, text_message

ADA, BEN = 4711, 4712


async def _rows(database: Database) -> list[InboxUpdate]:
    async with database.read() as session:
        return list(await session.scalars(select(InboxUpdate).order_by(InboxUpdate.update_id)))


async def test_the_same_update_many_times_at_once_is_stored_once(context: FrontContext, database: Database) -> None:
    woken: list[int] = []
    # Two of them, as if there were two processes: one knows nothing of the other's commits.
    inboxes = [Inbox(context, woken.append), Inbox(context, woken.append)]
    body = text_message(1, ADA, "hello")
    new = await asyncio.gather(*(inboxes[number % 2].store([read_update(body)]) for number in range(50)))
    assert sum(new) == 1
    [row] = await _rows(database)
    assert (row.body, row.telegram_id, row.kind, row.recipient) == (body, ADA, "message", "instance")
    assert row.expires_at == pytest.approx(row.received_at + 24 * 3600)
    assert woken == [ADA]


async def test_a_repeat_after_delivery_changes_nothing(context: FrontContext, database: Database) -> None:
    inbox = Inbox(context, lambda _: None)
    arrival = read_update(text_message(1, ADA, "hello"))
    assert await inbox.store([arrival]) == 1
    async with database.write() as session:
        await session.execute(update(InboxUpdate).values(status=InboxStatus.DELIVERED))
    assert await inbox.store([arrival]) == 0
    assert [row.status for row in await _rows(database)] == ["delivered"]


async def test_repeats_are_told_by_equality_because_ids_may_start_anew(
    context: FrontContext, database: Database
) -> None:
    inbox = Inbox(context, lambda _: None)
    for update_id in (900, 5, 901, 4):
        assert await inbox.store([read_update(text_message(update_id, ADA, "hello"))]) == 1
    assert [row.update_id for row in await _rows(database)] == [4, 5, 900, 901]


async def test_many_at_once_are_all_stored_each_with_its_own(context: FrontContext, database: Database) -> None:
    woken: set[int] = set()
    inbox = Inbox(context, woken.add)
    bodies = {number: text_message(number, number % 7 + 1, f"message {number}") for number in range(1, 301)}
    new = await asyncio.gather(*(inbox.store([read_update(body)]) for body in bodies.values()))
    assert new == [1] * 300
    assert {row.update_id: row.body for row in await _rows(database)} == bodies
    assert woken == set(range(1, 8))


async def test_files_are_the_senders_from_the_same_commit_on(context: FrontContext, database: Database) -> None:
    inbox = Inbox(context, lambda _: None)
    await inbox.store([read_update(photo_message(1, ADA, ["small", "large"]))])
    await inbox.store([read_update(photo_message(2, BEN, ["large"]))])
    async with database.read() as session:
        seen = {(file.telegram_id, file.file_id) for file in await session.scalars(select(SeenFile))}
    assert seen == {(ADA, "small"), (ADA, "large"), (BEN, "large")}


async def test_a_group_gets_no_place_in_any_queue(context: FrontContext, database: Database) -> None:
    from telegram import Chat

    woken: list[int] = []
    body = text_message(1, ADA, "hello all", chat=Chat(id=-100, type="supergroup", title="All"))
    await Inbox(context, woken.append).store([read_update(body)])
    [row] = await _rows(database)
    assert (row.status, row.body) == ("handled", b"")
    assert woken == []
    assert person(ADA).id == row.telegram_id


async def test_old_rows_go_and_pending_ones_stay(context: FrontContext, database: Database) -> None:
    inbox = Inbox(context, lambda _: None)
    await inbox.store([read_update(text_message(number, ADA, "hello")) for number in range(1, 5)])
    old = now() - 49 * 3600
    async with database.write() as session:
        await session.execute(update(InboxUpdate).where(InboxUpdate.update_id < 4).values(received_at=old))
        settled = update(InboxUpdate).where(InboxUpdate.update_id.in_((1, 2)))
        await session.execute(settled.values(status=InboxStatus.DELIVERED, settled_at=old))
        note(session, ADA, Stage.READY)
        await session.flush()
        await session.execute(update(TimelineEntry).where(TimelineEntry.id < 3).values(at=now() - 15 * 24 * 3600))
    assert await inbox.sweep_once() == 2
    assert await inbox.sweep_once() == 0
    assert [row.update_id for row in await _rows(database)] == [3, 4]
    async with database.read() as session:
        assert len((await session.scalars(select(TimelineEntry))).all()) == 3


async def test_a_database_that_is_down_is_said_so(context: FrontContext, database: Database) -> None:
    async with database.write() as session:
        await session.run_sync(lambda sync: InboxUpdate.__table__.drop(sync.connection()))  # type: ignore[attr-defined]
    with pytest.raises(InboxUnavailable):
        await Inbox(context, lambda _: None).store([read_update(text_message(1, ADA, "hello"))])
