"""Wishes, suspensions and departures."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    Base,
    ContainerState,
    InboxStatus,
    InboxUpdate,
    Instance,
    News,
    Recipient,
    SeenFile,
    User,
    UserStatus,
    Waiting,
    Wanted,
    Wish,
)
from bot.timeline import Stage, note
from bot.users import admission, people, places, receipts
from bot.users.plans import PLANS

ADA = 4711


@pytest.fixture
async def ada(database: Database, make_settings: Callable[..., Settings]) -> User:
    """Somebody who was admitted."""
    async with database.write() as session:
        user = await people.remember(session, ADA, "Ada", "ada", "en")
        await admission.admit(session, make_settings(admission="open"), user)
        return user


async def _wish(database: Database, ada: User) -> Wish:
    async with database.read() as session:
        return await session.get_one(Wish, ada.id)


async def test_only_a_change_of_mind_is_a_new_generation(database: Database, ada: User) -> None:
    for wanted, again, generation in (
        (Wanted.AWAKE, False, 1),
        (Wanted.STOPPED, False, 2),
        (Wanted.STOPPED, False, 2),
        (Wanted.STOPPED, True, 3),
        (Wanted.AWAKE, False, 4),
    ):
        async with database.write() as session:
            await people.wish(session, ada, wanted, again=again)
        assert (await _wish(database, ada)).generation == generation


async def test_what_the_person_told_is_brought_to_the_instance_without_waking_it(database: Database, ada: User) -> None:
    async with database.write() as session:
        await people.wish(session, ada, Wanted.STOPPED)
        assert await people.renew(session, ada)
    wish = await _wish(database, ada)
    assert (wish.wanted, wish.generation) == (Wanted.STOPPED, 3)


async def test_names_are_kept_up_to_date_and_nothing_else_changes(database: Database, ada: User) -> None:
    async with database.write() as session:
        await people.remember(session, ADA, "Augusta", None, "fr")
    async with database.read() as session:
        user = (await session.scalars(select(User))).one()
    assert (user.first_name, user.username, user.language) == ("Augusta", None, "fr")
    assert user.status == UserStatus.ACTIVE


async def test_a_suspension_stops_the_instance_and_keeps_the_place(database: Database, ada: User) -> None:
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        await people.suspend(session, user)
    assert (await _wish(database, ada)).wanted == Wanted.STOPPED
    async with database.write() as session:
        assert await places.taken(session) == 1
        user = await people.find(session, ADA)
        assert user is not None
        await people.resume(session, user)
        assert user.status == UserStatus.ACTIVE


async def _fill(database: Database, ada: User) -> None:
    async with database.write() as session:
        session.add_all(
            InboxUpdate(
                update_id=number,
                telegram_id=ADA,
                kind="message",
                recipient=Recipient.INSTANCE,
                body=b"{}",
                status=status,
                received_at=now(),
                expires_at=now() + 60,
            )
            for number, status in ((1, InboxStatus.DELIVERED), (2, InboxStatus.PENDING))
        )
        session.add(SeenFile(telegram_id=ADA, file_id="f", seen_at=now()))
        session.add(Waiting(telegram_id=ADA, since=now(), setup=True))
        session.add(Announcement(telegram_id=ADA, news=News.LATE_JOB, detail={}, created_at=now()))
        note(session, ADA, Stage.RECEIVED)
        session.add(
            Instance(
                id="u-abcdefghij",
                user_id=ada.id,
                plan="standard",
                image="sha256:0",
                container=ContainerState.RUNNING,
                created_at=now(),
            )
        )


async def _leave(database: Database) -> None:
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        await people.leave(session, user)


async def _forget(database: Database) -> list[str] | None:
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        return await people.forget(session, user)


async def _count_rows_about(database: Database, telegram_id: int) -> dict[str, int]:
    async with database.read() as session:
        return {
            name: await session.scalar(
                select(func.count()).select_from(table).where(table.c.telegram_id == telegram_id)
            )
            or 0
            for name, table in Base.metadata.tables.items()
            if "telegram_id" in table.c
        }


async def test_whoever_leaves_is_forgotten_once_the_instance_is_gone(database: Database, ada: User) -> None:
    await _fill(database, ada)
    await _leave(database)
    assert (await _wish(database, ada)).wanted == Wanted.ABSENT
    assert await _forget(database) is None
    async with database.write() as session:
        await session.delete(await session.get_one(Instance, "u-abcdefghij"))
        await receipts.add(session, ADA, ["the container u-abcdefghij"])
    assert await _forget(database) == [
        "the container u-abcdefghij",
        "2 updates in the inbox",
        "1 file noted for this chat",
        "2 notes of what happened",
        "the entry with name, language and time zone",
    ]
    assert set((await _count_rows_about(database, ADA)).values()) == {0}
    async with database.read() as session:
        assert await places.taken(session) == 0
        assert await session.get(Wish, ada.id) is None


async def test_what_comes_after_the_farewell_waits_for_a_new_beginning(database: Database, ada: User) -> None:
    await _leave(database)
    await _fill(database, ada)
    async with database.write() as session:
        await session.delete(await session.get_one(Instance, "u-abcdefghij"))
    assert await _forget(database)
    async with database.read() as session:
        known, waiting = (await session.scalars(select(InboxUpdate).order_by(InboxUpdate.update_id))).all()
        files = (await session.scalars(select(SeenFile.file_id))).all()
    assert (waiting.update_id, waiting.status, waiting.telegram_id) == (2, InboxStatus.PENDING, ADA)
    # Its file is needed with it; and a repeat of what was settled is still known, as nobody's.
    assert files == ["f"]
    assert (known.update_id, known.telegram_id, known.recipient) == (1, 0, Recipient.NOBODY)


async def test_leaving_does_not_end_a_suspension(
    database: Database, ada: User, make_settings: Callable[..., Settings]
) -> None:
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        await people.suspend(session, user)
        user.call_name, user.timezone = "Countess", "Europe/London"
    await _leave(database)
    assert await _forget(database)
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        assert (user.status, user.first_name, user.call_name, user.timezone) == (UserStatus.SUSPENDED, "", None, None)
        assert await places.taken(session) == 0
        await people.resume(session, user)
        # Without a place, the next message is another admission.
        assert user.status == UserStatus.REFUSED
        assert (await admission.admit(session, make_settings(admission="open"), user)).new


async def test_somebody_who_was_never_admitted_leaves_at_once(database: Database) -> None:
    async with database.write() as session:
        await people.remember(session, 1, "Eve")
        await places.take(session, 5)
    async with database.write() as session:
        user = await people.find(session, 1)
        assert user is not None
        await people.leave(session, user)
    async with database.read() as session:
        assert (await session.scalars(select(User))).all() == []
        assert await places.taken(session) == 1


async def test_a_suspension_ends_no_deletion(database: Database, ada: User) -> None:
    await _leave(database)
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        await people.suspend(session, user)
    assert (await _wish(database, ada)).wanted == Wanted.ABSENT
    assert await _forget(database) is not None


async def test_keeping_awake_is_a_new_wish_that_ends_by_itself(
    database: Database, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasts = PLANS["standard"].keep_awake
    async with database.write() as session:
        until = await people.keep_awake(session, ada)
    assert until is not None
    wish = await _wish(database, ada)
    assert (wish.wanted, wish.generation, wish.awake_until) == (Wanted.AWAKE, 2, until)
    assert people.kept_awake_until(wish, now()) == until
    assert people.kept_awake_until(wish, until) is None
    # The clock was put back: what lies further ahead than the button gives was never asked for.
    assert people.kept_awake_until(wish, until - lasts - 1) is None
    # A second press changes nothing, unless it comes later.
    async with database.write() as session:
        assert await people.keep_awake(session, ada) == until
    assert (await _wish(database, ada)).generation == 2
    monkeypatch.setattr(people, "now", lambda: time.time() + 3600)
    async with database.write() as session:
        assert (await people.keep_awake(session, ada) or 0) > until + 3000
    assert (await _wish(database, ada)).generation == 3


async def test_whoever_stops_or_leaves_keeps_nothing_awake(database: Database, ada: User) -> None:
    async with database.write() as session:
        await people.keep_awake(session, ada)
        await people.wish(session, ada, Wanted.STOPPED)
    assert (await _wish(database, ada)).awake_until is None
    await _leave(database)
    async with database.write() as session:
        assert await people.keep_awake(session, ada) is None
    assert (await _wish(database, ada)).wanted == Wanted.ABSENT


async def test_a_receipt_is_the_operators_who_asked_for_it(database: Database, ada: User) -> None:
    async with database.write() as session:
        number = await receipts.ask(session, ADA)
        await receipts.add(session, ADA, ["the container u-abcdefghij"])
    async with database.write() as session:
        assert await receipts.collect(session, number) is None
        lines = await receipts.take(session, ADA)
        assert lines == ["the container u-abcdefghij"]
        assert await receipts.hand_over(session, ADA, [*lines, "2 updates"])
    assert (await _count_rows_about(database, ADA))["announcements"] == 0
    async with database.write() as session:
        assert await receipts.collect(session, number) == ["the container u-abcdefghij", "2 updates"]
    async with database.write() as session:
        assert await receipts.collect(session, number) is None
        assert not await receipts.hand_over(session, ADA, lines)
