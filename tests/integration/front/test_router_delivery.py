"""How updates reach instances: in order, once, and whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from bot.front.context import FrontContext
from bot.front.outbox import BotCall
from bot.nudge import Topic
from bot.store import Database, now
from bot.store.tables import ContainerState, Decision, InboxUpdate, Instance, Waiting, Wanted
from tests.integration.front.conftest import Gateways, Side, eventually, running_side
from tests.updates import text_message

ADA, BEN = 4711, 4712


async def test_the_first_message_makes_an_instance_and_reaches_it(side: Side, gateways: Gateways) -> None:
    body = text_message(1, ADA, "hello")
    await side.send(body)

    async def wished() -> bool:
        wish = await side.wish(ADA)
        return wish is not None and wish.wanted == Wanted.AWAKE

    await eventually(wished)
    assert "Setting up" in (await side.said(ADA))[0]
    instance = await side.bring_up(ADA)
    await side.until(1, "delivered")

    assert gateways.bodies["127.0.0.1"] == [body]
    assert gateways.secrets["127.0.0.1"] == [side.context.key.derive(instance.id, 1).webhook_secret]
    assert await side.stages(ADA) == ["received", "admitted", "delivered"]

    async def told() -> bool:
        return ["ready" in text for text in await side.said(ADA)] == [True]

    await eventually(told)
    assert [row.body for row in await side.rows()] == [b""]
    async with side.context.database.read() as session:
        assert await session.get(Waiting, ADA) is None


async def test_ten_messages_while_it_starts_arrive_in_order(side: Side, gateways: Gateways) -> None:
    for number in (5, 3, 9, 1, 7, 2, 8, 4, 10, 6):
        await side.send(text_message(number, ADA, f"message {number}"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(10, "delivered")
    assert gateways.update_ids("127.0.0.1") == list(range(1, 11))


async def test_only_the_durable_header_ends_the_attempts(side: Side, gateways: Gateways) -> None:
    gateways.answers["127.0.0.1"] = [
        Response(status_code=200),
        Response(status_code=503),
        Response(status_code=401),
        Response(status_code=200, headers={"x-openclaw-delivery-accepted": "maybe"}),
    ]
    await side.send(text_message(1, ADA, "one"), text_message(2, ADA, "two"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(2, "delivered")
    assert gateways.update_ids("127.0.0.1") == [1, 1, 1, 1, 1, 2]


async def test_a_refused_connection_is_tried_again(side: Side, gateways: Gateways) -> None:
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    # Nobody listens there: the port is open on IPv4's loopback addresses alone.
    await side.bring_up(ADA, address="[::1]")

    async def tried() -> bool:
        return (await side.rows())[0].attempts >= 2

    await eventually(tried)
    assert "no answer" in ((await side.rows())[0].last_error or "")
    await side.bring_up(ADA)
    await side.until(1, "delivered")
    assert gateways.update_ids("127.0.0.1") == [1]


async def test_an_update_that_is_never_taken_does_not_block_the_next(side: Side, gateways: Gateways) -> None:
    gateways.answers["127.0.0.1"] = [Response(status_code=413)]
    await side.send(text_message(1, ADA, "too long"), text_message(2, ADA, "short"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(2, "delivered")
    assert await side.status(1) == "expired"
    assert any("cannot read" in text for text in await side.said(ADA))


async def test_one_in_flight_for_each_person_and_many_people_at_once(side: Side, gateways: Gateways) -> None:
    people = range(1, 9)
    for number in people:
        await side.send(*(text_message(number * 10 + turn, number, "hello") for turn in range(3)))
    for number in people:
        await eventually(lambda number=number: side.wish(number))  # type: ignore[misc]
    gateways.open.clear()
    for number in people:
        await side.bring_up(number, address=f"127.0.1.{number}")

    async def all_at_once() -> bool:
        return gateways.most_at_once == len(people)

    await eventually(all_at_once)
    gateways.open.set()
    for number in people:
        await side.until(number * 10 + 2, "delivered")
        assert gateways.update_ids(f"127.0.1.{number}") == [number * 10 + turn for turn in range(3)]
    assert gateways.most_at_once == len(people)


async def test_nothing_passes_a_fence(side: Side, gateways: Gateways) -> None:
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    before = await side.wish(ADA)
    await side.bring_up(ADA, fenced_at=now())

    async def asked_again() -> bool:
        wish = await side.wish(ADA)
        return wish is not None and before is not None and wish.generation > before.generation

    await eventually(asked_again)
    assert gateways.update_ids("127.0.0.1") == []
    await side.bring_up(ADA, fenced_at=None)
    await side.until(1, "delivered")


async def test_a_fence_taken_during_a_delivery_has_the_instance_woken(side: Side, gateways: Gateways) -> None:
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    gateways.open.clear()
    await side.bring_up(ADA)

    async def in_flight() -> bool:
        return gateways.most_at_once == 1

    await eventually(in_flight)
    async with side.context.database.write() as session:
        await session.execute(update(Instance).values(fenced_at=now()))
    before = await side.wish(ADA)
    gateways.open.set()
    await side.until(1, "delivered")
    after = await side.wish(ADA)
    assert before is not None
    assert after is not None
    assert after.generation == before.generation + 1


async def test_a_stopped_instance_is_asked_for_once(side: Side) -> None:
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(1, "delivered")
    before = await side.wish(ADA)
    assert before is not None
    await side.bring_up(ADA, container=ContainerState.EXITED, ready_at=None)
    await side.send(text_message(2, ADA, "two"))

    async def asked_again() -> bool:
        wish = await side.wish(ADA)
        return wish is not None and wish.generation == before.generation + 1

    await eventually(asked_again)
    for _ in range(3):
        side.context.nudge.ring(Topic.INSTANCES)
        await asyncio.sleep(0.05)
    assert await asked_again()
    await side.bring_up(ADA)
    await side.until(2, "delivered")


async def test_a_failure_is_told_once_and_the_messages_are_kept(side: Side) -> None:
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA, container=ContainerState.EXITED, ready_at=None, failure="Exit code 78.")

    async def told() -> bool:
        return any("cannot start" in text for text in await side.said(ADA))

    await eventually(told)
    await side.send(text_message(2, ADA, "two"))
    await side.send(text_message(3, ADA, "/status"))
    await side.until(3, "handled")
    texts = await side.said(ADA)
    assert sum("cannot start" in text for text in texts) == 1
    assert not any("78" in text for text in texts)
    await side.bring_up(ADA, failure=None)
    await side.until(2, "delivered")
    assert any("ready" in text for text in await side.said(ADA))


async def test_what_expires_is_told_once(side: Side, gateways: Gateways) -> None:
    await side.send(text_message(1, ADA, "one"), text_message(2, ADA, "two"))
    await eventually(lambda: side.wish(ADA))
    for update_id in (1, 2):
        async with side.context.database.write() as session:
            await session.execute(
                update(InboxUpdate).where(InboxUpdate.update_id == update_id).values(expires_at=now() - 1)
            )
        side.router.wake(ADA)
        await side.until(update_id, "expired")
    await side.send(text_message(3, ADA, "three"))
    await side.bring_up(ADA)
    await side.until(3, "delivered")
    assert gateways.update_ids("127.0.0.1") == [3]
    assert sum("dropped" in text for text in await side.said(ADA)) == 1


async def test_the_router_waits_while_the_model_is_down(context: FrontContext, gateways: Gateways) -> None:
    down = True
    async with running_side(context, gateways.port, model_down=lambda: down) as side:
        await side.send(text_message(1, ADA, "one"))
        await eventually(lambda: side.wish(ADA))
        await side.bring_up(ADA)
        await side.send(text_message(2, ADA, "/help"))
        await side.until(2, "handled")
        assert gateways.update_ids("127.0.0.1") == []
        down = False
        await side.until(1, "delivered")


@pytest.mark.parametrize("cut_after", [0.0, 0.01, 0.03, 0.08, 0.2])
async def test_a_front_that_is_killed_goes_on_where_it_was(
    context: FrontContext, gateways: Gateways, database: Database, cut_after: float
) -> None:
    people = (ADA, BEN)
    async with running_side(context, gateways.port) as side:
        for telegram_id in people:
            await side.send(*(text_message(telegram_id * 10 + turn, telegram_id, "hello") for turn in range(4)))
        await asyncio.sleep(cut_after)
    async with running_side(context, gateways.port) as side:
        for number, telegram_id in enumerate(people):
            await eventually(lambda telegram_id=telegram_id: side.wish(telegram_id))  # type: ignore[misc]
            await side.bring_up(telegram_id, address=f"127.0.2.{number + 1}")
        await asyncio.sleep(cut_after)
    async with running_side(context, gateways.port) as side:
        for number, telegram_id in enumerate(people):
            await side.until(telegram_id * 10 + 3, "delivered")
            sent = gateways.update_ids(f"127.0.2.{number + 1}")
            # A repeat is harmless, and can only be of the one that was in flight.
            assert list(dict.fromkeys(sent)) == [telegram_id * 10 + turn for turn in range(4)]
            assert sent == sorted(sent)
            assert len(sent) <= 5
            assert sum("Setting up" in text or "ready" in text for text in await side.said(telegram_id)) == 1


async def _asleep(side: Side, **columns: Any) -> None:
    """An instance that was up once, and rests."""
    await side.send(text_message(1, ADA, "one"))
    await eventually(lambda: side.wish(ADA))
    await side.bring_up(ADA)
    await side.until(1, "delivered")

    async def told() -> bool:
        return any("ready" in text for text in await side.said(ADA))

    await eventually(told)
    await side.bring_up(
        ADA, **{"container": ContainerState.PAUSED, "ready_at": None, "resting_since": now(), **columns}
    )


async def test_the_sign_of_typing_waits_for_nothing(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    await _asleep(side)
    signs: list[int] = []
    written = asyncio.Event()
    write = side.router._write

    async def pass_by(call: BotCall, *, to_chat: bool = True) -> None:
        signs.append(call.chat_id)

    @asynccontextmanager
    async def slow_write() -> AsyncIterator[AsyncSession]:
        await written.wait()
        async with write() as session:
            yield session

    monkeypatch.setattr(side.router._outbox, "pass_by", pass_by)
    monkeypatch.setattr(side.router, "_write", slow_write)
    before = await side.wish(ADA)
    await side.send(text_message(2, ADA, "two"))

    async def shown() -> bool:
        return ADA in signs

    # Neither for the instance, nor even for the wish to have it woken.
    await eventually(shown)
    after = await side.wish(ADA)
    assert before is not None
    assert after is not None
    assert after.generation == before.generation
    written.set()
    await side.bring_up(ADA)
    await side.until(2, "delivered")


async def test_whoever_waits_for_an_archive_is_told_at_once(side: Side) -> None:
    await _asleep(side, container=ContainerState.NONE, archive="ab12")
    await side.send(text_message(2, ADA, "two"))

    async def told() -> bool:
        return any("being unpacked" in text for text in await side.said(ADA))

    await eventually(told)
    await side.send(text_message(3, ADA, "/status"))
    await side.until(3, "handled")
    assert "is packed away" in (await side.said(ADA))[-1]
    await side.bring_up(ADA, archive=None)
    await side.until(2, "delivered")

    async def taken_back() -> bool:
        return not any("being unpacked" in text for text in await side.said(ADA))

    await eventually(taken_back)


async def test_whoever_waits_for_room_is_told_so(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notices", "router"):
        monkeypatch.setattr(f"bot.front.{name}.QUIET", 0.2)
    await _asleep(side)
    async with side.context.database.write() as session:
        instance = (await session.scalars(select(Instance))).one()
        session.add(
            Decision(instance_id=instance.id, first_at=now(), at=now(), action="wait", reason="Others are awake.")
        )
    await side.send(text_message(2, ADA, "two"))

    async def told() -> bool:
        return any("Many assistants are busy" in text for text in await side.said(ADA))

    await eventually(told)
    await side.bring_up(ADA)
    await side.until(2, "delivered")
