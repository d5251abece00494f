"""What the provisioner found out is told once, to whom it may be told, and the button below it works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import sqlite

from bot.front import announcements
from bot.front.announcements import Announcer
from bot.front.context import FrontContext
from bot.front.outbox import BotCall, Outbox
from bot.front.telegram import TelegramApi
from bot.nudge import Topic
from bot.store import Database, now
from bot.store.tables import Announcement, ContainerState, News, OutboxMessage, User, UserStatus, Waiting, Wanted, Wish
from bot.users import people
from bot.users.plans import PLANS
from tests.integration.front.conftest import Side, eventually
from tests.updates import membership, press, text_message

ADA = 4711
DAY = 24 * 3600.0
LATE = {"name": "Morning <brief>", "due_at": 1_000_000.0}


@pytest.fixture
async def ada(database: Database) -> User:
    """Somebody with a place, and a time zone."""
    return await _person(database, ADA)


@pytest.fixture
def announcer(context: FrontContext) -> Announcer:
    """One that looks when it is told to."""
    return Announcer(context, Outbox(context, TelegramApi(context)))


async def _person(database: Database, telegram_id: int) -> User:
    async with database.write() as session:
        user = await people.remember(session, telegram_id, "Ada")
        user.status, user.timezone = UserStatus.ACTIVE, "Asia/Tokyo"
        await people.wish(session, user, Wanted.AWAKE)
        return user


async def _announce(database: Database, news: News, detail: dict[str, Any], telegram_id: int = ADA) -> None:
    async with database.write() as session:
        session.add(Announcement(telegram_id=telegram_id, news=news, detail=detail, created_at=now()))


async def _said(database: Database) -> list[dict[str, Any]]:
    async with database.read() as session:
        return [dict(params) for params in await session.scalars(select(OutboxMessage.params))]


async def _untold(database: Database) -> int:
    async with database.read() as session:
        return len((await session.scalars(select(Announcement).where(Announcement.told_at.is_(None)))).all())


async def _rest(side: Side, rest: str = "stopped") -> None:
    """The person's instance was up, has rested for long since, and is going to rest more deeply."""
    await side.bring_up(ADA)

    async def nobody_waits() -> bool:
        async with side.context.database.read() as session:
            return await session.get(Waiting, ADA) is None

    await eventually(nobody_waits)
    await side.bring_up(ADA, container=ContainerState.PAUSED, ready_at=None, resting_since=now() - DAY)
    await _announce(side.context.database, News.LONG_SLEEP, {"rest": rest, "at": now() + 6 * 3600})


@asynccontextmanager
async def _announcing(side: Side) -> AsyncIterator[None]:
    task = asyncio.create_task(Announcer(side.context, side.router._outbox).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.usefixtures("ada")
async def test_a_late_job_is_told_once_in_the_persons_time(database: Database, announcer: Announcer) -> None:
    await _announce(database, News.LATE_JOB, LATE)
    await asyncio.gather(*(announcer.look() for _ in range(3)))
    await announcer.look()
    (said,) = await _said(database)
    assert said["chat_id"] == ADA
    assert "<b>Morning &lt;brief&gt;</b>, due on Monday, 12 January 1970 at 22:46" in said["text"]
    assert "disable_notification" not in said
    assert await _untold(database) == 0


@pytest.mark.usefixtures("ada")
async def test_many_late_jobs_are_one_message(database: Database, announcer: Announcer) -> None:
    for number in range(13):
        await _announce(database, News.LATE_JOB, {"name": f"job {number}", "due_at": now() - 60})
    await announcer.look()
    (said,) = await _said(database)
    assert [f"<b>job {number}</b>" in said["text"] for number in range(11)] == [True] * 10 + [False]
    assert "and 3 more" in said["text"]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"name": None, "due_at": "soon"},
        {"name": "x" * 9999, "due_at": 1e300},
        {"name": "x", "due_at": float(10**17)},
    ],
)
async def test_what_cannot_be_read_stands_in_nobodys_way(
    database: Database, announcer: Announcer, detail: dict[str, Any]
) -> None:
    await _announce(database, News.LATE_JOB, detail)
    await _person(database, ADA + 1)
    await _announce(database, News.LATE_JOB, LATE, ADA + 1)
    await announcer.look()
    first, second = await _said(database)
    assert len(first["text"]) < 200
    assert "Morning" in second["text"]
    assert await _untold(database) == 0


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"status": UserStatus.SUSPENDED}, Wanted.STOPPED),
        ({"status": UserStatus.BLOCKED}, Wanted.STOPPED),
        ({"status": UserStatus.REFUSED}, None),
        ({}, Wanted.ABSENT),
    ],
)
async def test_nobody_else_is_told_anything(
    database: Database, announcer: Announcer, ada: User, columns: dict[str, Any], wanted: Wanted | None
) -> None:
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        for name, value in columns.items():
            setattr(user, name, value)
        if wanted is None:
            await session.delete(await session.get_one(Wish, ada.id))
        else:
            await people.wish(session, user, wanted)
    await _announce(database, News.LATE_JOB, LATE)
    await announcer.look()
    assert await _said(database) == []
    assert await _untold(database) == 0


async def test_what_is_about_nobody_goes(database: Database, announcer: Announcer) -> None:
    await _announce(database, News.LATE_JOB, LATE)
    await announcer.look()
    async with database.read() as session:
        assert (await session.scalars(select(Announcement))).all() == []


@pytest.mark.usefixtures("ada")
async def test_a_crash_between_word_and_mark_repeats_nothing(
    database: Database, announcer: Announcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _announce(database, News.LATE_JOB, LATE)
    enqueue = Outbox.enqueue

    async def cut_off(self: Outbox, session: Any, call: BotCall) -> int:
        await enqueue(self, session, call)
        raise ConnectionResetError("killed before the commit")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "enqueue", cut_off)
        with pytest.raises(ConnectionResetError):
            await announcer.look()
    assert await _said(database) == []
    assert await _untold(database) == 1
    await announcer.look()
    await announcer.look()
    assert len(await _said(database)) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_looking_for_nothing_reads_nothing(database: Database) -> None:
    untold = select(Announcement.telegram_id).where(Announcement.told_at.is_(None), announcements._NEWS)
    literal = {"literal_binds": True}
    statement = untold.order_by(Announcement.id).limit(1).compile(dialect=sqlite.dialect(), compile_kwargs=literal)
    async with database.read() as session:
        plan = (await session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))).all()
    assert "announcements_untold" in plan[0][3]


@pytest.mark.parametrize(("rest", "words"), [("stopped", "a few seconds longer"), ("archived", "about a minute")])
async def test_a_long_sleep_is_told_without_a_sound(side: Side, rest: str, words: str) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    async with _announcing(side):
        await _rest(side, rest)
        side.context.nudge.ring(Topic.INSTANCES)

        async def told() -> OutboxMessage | None:
            calls = await side.calls(ADA)
            return (
                calls[-1] if "rest more deeply" in str(calls[-1].params) or "packed" in str(calls[-1].params) else None
            )

        call: OutboxMessage = await eventually(told)
    assert call.params["disable_notification"] is True
    assert words in call.params["text"]
    assert " at " in call.params["text"]
    assert "Keep it awake" in await side.buttons(ADA)


async def test_whoever_wrote_meanwhile_hears_nothing_of_a_long_sleep(side: Side, announcer: Announcer) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await _rest(side)
    await side.bring_up(ADA, resting_since=None)
    before = len(await side.said(ADA))
    await announcer.look()
    assert len(await side.said(ADA)) == before
    assert await _untold(side.context.database) == 0


async def _asked_to_keep_awake(side: Side, announcer: Announcer) -> Wish:
    await side.handle(text_message(1, ADA, "/start"))
    await _rest(side)
    await announcer.look()
    wish = await side.wish(ADA)
    assert wish is not None
    return wish


async def test_the_button_keeps_it_awake(side: Side, announcer: Announcer) -> None:
    before = await _asked_to_keep_awake(side, announcer)
    await side.press(2, "Keep it awake", ADA)
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.awake_until is not None
    assert abs(wish.awake_until - now() - PLANS["standard"].keep_awake) < 60
    assert (wish.wanted, wish.generation) == (Wanted.AWAKE, before.generation + 1)
    edit = (await side.calls(ADA))[-1]
    assert "stays awake until tomorrow at" in edit.params["text"]
    assert "UTC" in edit.params["text"]
    # Twice is as good as once.
    await side.press(3, "Keep it awake", ADA)
    again = await side.wish(ADA)
    assert again is not None
    assert (again.awake_until, again.generation) == (wish.awake_until, wish.generation)
    await side.handle(text_message(4, ADA, "/status"))
    assert "You asked it to stay awake until tomorrow at" in (await side.said(ADA))[-1]


@pytest.mark.parametrize("case", ["suspended", "leaving", "forgotten", "blocked"])
async def test_the_button_at_another_time(
    side: Side, announcer: Announcer, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toasts: list[dict[str, Any]] = []

    async def ask(call: BotCall, wait: float = 10.0) -> None:
        toasts.append(dict(call.params))

    monkeypatch.setattr(side.router._outbox, "ask", ask)
    await _asked_to_keep_awake(side, announcer)
    data = (await side.buttons(ADA))["Keep it awake"]
    async with side.context.database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        if case == "suspended":
            await people.suspend(session, user)
        elif case != "blocked":
            await people.leave(session, user)
    if case == "blocked":
        await side.handle(membership(5, ADA, blocked=True))
    if case == "forgotten":
        await side.remove(ADA)

        async def gone() -> bool:
            return await side.user(ADA) is None

        await eventually(gone)
    await side.handle(press(6, ADA, data))

    async def answered() -> dict[str, Any] | None:
        return toasts[-1] if toasts else None

    toast = await eventually(answered)
    user, wish = await side.user(ADA), await side.wish(ADA)
    if case == "blocked":
        # Who presses a button has let the bot in again.
        assert user is not None
        assert user.status == UserStatus.ACTIVE
        assert wish is not None
        assert wish.awake_until is not None
        assert toast["show_alert"] is None
        return
    words = {"suspended": "suspended", "leaving": "being deleted", "forgotten": "Send me a message"}
    assert words[case] in toast["text"]
    assert toast["show_alert"] is True
    assert wish is None or wish.awake_until is None


async def test_status_says_when_it_wakes_for_a_job(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.bring_up(
        ADA, container=ContainerState.PAUSED, ready_at=None, resting_since=now(), next_job_at=now() + DAY
    )
    await side.handle(text_message(2, ADA, "/status"))
    assert "wakes up for its next job tomorrow at" in (await side.said(ADA))[-1]
