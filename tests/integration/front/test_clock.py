"""The machine's clock is set by hours: no message waits, or is given up, for the size of the step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from sqlalchemy import update
from starlette.responses import Response

from bot.front import clock
from bot.front.context import FrontContext
from bot.front.outbox import Backoff, BotCall, Outbox, OutboxPolicy
from bot.front.telegram import TelegramApi, TelegramUnavailable
from bot.store import Database, now
from bot.store.tables import ContainerState, InboxUpdate, OutboxMessage, Waiting, Wish
from bot.users.plans import PLANS
from tests.integration.front.conftest import Gateways, Side, eventually, running_side
from tests.updates import text_message

ADA = 4711
HOUR = 3600.0

SetClock = Callable[[float], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Puts the clock forward, or back, by so many seconds."""
    real, by = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + by[0])

    def step(seconds: float) -> None:
        by[0] += seconds

    return step


@asynccontextmanager
async def _running(outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _set(database: Database, table: type[Any], **columns: Any) -> None:
    async with database.write() as session:
        await session.execute(update(table).values(**columns))


async def test_what_waits_is_not_older_for_a_clock_put_forward(side: Side, set_clock: SetClock) -> None:
    await side.send(text_message(1, ADA, "hello"))
    await eventually(lambda: side.wish(ADA))
    set_clock(30 * HOUR)
    # Before anybody else has seen that the clock was set.
    side.router.wake(ADA)
    await side.send(text_message(2, ADA, "still there?"))

    async def moved() -> bool:
        return all(20 * HOUR < row.expires_at - now() < 25 * HOUR for row in await side.rows())

    await eventually(moved)
    await side.bring_up(ADA)
    await side.until(2, "delivered")
    assert [row.status for row in await side.rows()] == ["delivered", "delivered"]
    assert not any("dropped" in text or "longer than usual" in text for text in await side.said(ADA))


async def test_a_pause_is_not_longer_for_a_clock_put_back(side: Side, gateways: Gateways, set_clock: SetClock) -> None:
    gateways.answers["127.0.0.1"] = [Response(status_code=503) for _ in range(3)]
    await side.send(text_message(1, ADA, "hello"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)

    async def tried() -> bool:
        return (await side.rows())[0].attempts >= 3

    await eventually(tried)
    set_clock(-5 * HOUR)
    await side.until(1, "delivered")
    await side.send(text_message(2, ADA, "and now?"))
    await side.until(2, "delivered")


async def test_a_restart_after_the_clock_was_put_back_waits_for_nothing(
    context: FrontContext, gateways: Gateways, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.front.router._RETRY_FAILED", 0.0)
    async with running_side(context, gateways.port) as side:
        await side.send(text_message(1, ADA, "hello"))
        await eventually(lambda: side.wish(ADA))
        await side.bring_up(ADA, container=ContainerState.EXITED, ready_at=None, failure="Exit code 78.")

        async def told() -> bool:
            return any("cannot start" in text for text in await side.said(ADA))

        await eventually(told)
        before = await side.wish(ADA)
        assert before is not None
    set_clock(-50 * HOUR)
    async with running_side(context, gateways.port) as side:

        async def set_right() -> bool:
            [row], wish = await side.rows(), await side.wish(ADA)
            return row.expires_at - now() < 25 * HOUR and wish is not None and wish.asked_at <= now()

        await eventually(set_right)
        # A failed instance is tried again for a newer message, and it is newer whatever the clock said before.
        await side.send(text_message(2, ADA, "hello?"))

        async def asked_again() -> bool:
            wish = await side.wish(ADA)
            return wish is not None and wish.generation > before.generation

        await eventually(asked_again)


async def test_whoever_waits_is_told_in_time_with_a_clock_put_back(
    side: Side, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.front.notices.QUIET", 0.5)
    await side.handle(text_message(1, ADA, "/start"))
    await side.bring_up(ADA)

    async def ready() -> bool:
        return any("is ready" in text for text in await side.said(ADA))

    await eventually(ready)
    await side.bring_up(ADA, container=ContainerState.PAUSED, ready_at=None, resting_since=now())
    set_clock(-10 * HOUR)
    await side.send(text_message(2, ADA, "hello"))

    async def told() -> bool:
        return any("waking up" in text for text in await side.said(ADA))

    await eventually(told)


async def test_when_somebody_wrote_last_follows_a_clock_put_back(side: Side, set_clock: SetClock) -> None:
    await side.send(text_message(1, ADA, "hello"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(1, "delivered")
    set_clock(-10 * HOUR)
    await side.send(text_message(2, ADA, "hello"))
    await side.until(2, "delivered")
    user = await side.user(ADA)
    assert user is not None
    assert user.last_message_at is not None
    assert user.last_message_at <= now()


async def test_a_message_is_not_given_up_for_a_clock_put_forward(
    context: FrontContext, database: Database, set_clock: SetClock
) -> None:
    calls = 0

    class Telegram:
        async def call(self, method: str, params: object, files: object = ()) -> dict[str, Any]:
            nonlocal calls
            calls += 1
            if calls <= 3:
                set_clock(30 * HOUR if calls == 1 else 0.0)
                raise TelegramUnavailable("Telegram is away.", in_doubt=False)
            return {"ok": True, "result": {"message_id": 1}}

    policy = OutboxPolicy(backoff=Backoff(0.01, 0.02), grace=0.0)
    outbox = Outbox(context, cast(TelegramApi, Telegram()), policy)
    async with database.write() as session:
        row = await outbox.enqueue(session, BotCall("sendMessage", {"chat_id": ADA, "text": "hello"}, ADA))
    async with _running(outbox):

        async def sent() -> bool:
            async with database.read() as session:
                return (await session.get_one(OutboxMessage, row)).finished_at is not None

        await eventually(sent)
    async with database.read() as session:
        assert (await session.get_one(OutboxMessage, row)).status == "sent"


async def test_what_came_after_the_step_is_left_alone(side: Side, database: Database) -> None:
    await side.send(text_message(1, ADA, "hello"))
    await eventually(lambda: side.wish(ADA))
    [before] = await side.rows()
    async with database.write() as session:
        await clock.put_forward(session, 5 * HOUR)
        await clock.put_back(session)
    [after] = await side.rows()
    assert (after.received_at, after.expires_at) == (before.received_at, before.expires_at)


async def test_all_that_is_waited_by_follows_the_clock(side: Side, database: Database) -> None:
    await side.send(text_message(1, ADA, "hello"))
    wish = await eventually(lambda: side.wish(ADA))
    at = now()
    for table, columns in (
        (InboxUpdate, {"received_at": at - 6 * HOUR, "expires_at": at - HOUR}),
        (Waiting, {"since": at - 6 * HOUR}),
        (Wish, {"asked_at": at - 6 * HOUR, "awake_until": at - HOUR}),
        (OutboxMessage, {"created_at": at - 6 * HOUR}),
    ):
        await _set(database, table, **columns)
    async with database.write() as session:
        await clock.put_forward(session, 5 * HOUR)
    async with database.read() as session:
        [row] = await side.rows()
        waiting = await session.get_one(Waiting, ADA)
        wish = await session.get_one(Wish, wish.user_id)
        messages = await side.calls(ADA)
    assert (row.received_at, row.expires_at, waiting.since) == (at - HOUR, at + 4 * HOUR, at - HOUR)
    assert (wish.asked_at, wish.awake_until) == (at - HOUR, at + 4 * HOUR)
    assert messages[0].created_at == at - HOUR
    for table, columns in (
        (InboxUpdate, {"received_at": at + 6 * HOUR, "expires_at": at + 7 * HOUR}),
        (Waiting, {"since": at + 6 * HOUR}),
        (Wish, {"asked_at": at + 6 * HOUR, "awake_until": at + 99 * HOUR}),
    ):
        await _set(database, table, **columns)
    async with database.write() as session:
        await clock.put_back(session)
    async with database.read() as session:
        [row] = await side.rows()
        waiting = await session.get_one(Waiting, ADA)
        wish = await session.get_one(Wish, wish.user_id)
    assert row.received_at <= now()
    assert round(row.expires_at - row.received_at) == HOUR
    assert waiting.since <= now()
    assert wish.asked_at <= now()
    assert wish.awake_until is not None
    assert wish.awake_until <= now() + PLANS["standard"].keep_awake
