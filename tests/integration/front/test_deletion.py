"""Whoever leaves: asked first, told what was removed, and nothing of them is left anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Float, LargeBinary, Text, cast, func, select

from bot.front.context import FrontContext
from bot.front.outbox import BotCall, Upload, rows
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    Base,
    Instance,
    News,
    OutboxMessage,
    OutboxStatus,
    Usage,
    UserStatus,
    Wanted,
    Wish,
)
from bot.users import people, places, receipts
from tests.integration.front.conftest import Gateways, Side, eventually, running_side
from tests.updates import photo_message, press, text_message

#: A number that nothing else in the database is.
ADA = 7_000_047_110


async def mentions(database: Database, telegram_id: int) -> dict[str, int]:
    """How many rows of each table hold the number, in whatever column."""
    found = {}
    async with database.read() as session:
        for name, table in Base.metadata.tables.items():
            for column in table.columns:
                if isinstance(column.type, Float | LargeBinary):
                    continue
                where = cast(column, Text).contains(str(telegram_id))
                count = await session.scalar(select(func.count()).select_from(table).where(where))
                if count:
                    found[f"{name}.{column.name}"] = count
    return found


async def send_all(side: Side, telegram_id: int) -> None:
    """What the outbox does, with a Telegram that takes everything."""
    spool = side.router._outbox.spool.folder
    while True:
        async with side.context.database.write() as session:
            taken = await rows.take(session, telegram_id, spool)
            if taken is None:
                return
            await rows.settle(session, taken, telegram_id, {"ok": True, "result": {"message_id": taken.row}})


async def has_instance(side: Side, telegram_id: int, update_id: int = 1) -> Instance:
    """The first message, and an instance that has it."""
    await side.send(text_message(update_id, telegram_id, "hello"))
    await eventually(lambda: side.wish(telegram_id))
    instance = await side.bring_up(telegram_id)
    await side.until(update_id, "delivered")
    return instance


async def goodbye(side: Side, telegram_id: int) -> str:
    """The receipt, once it is said."""

    async def said() -> str | None:
        return next((text for text in await side.said(telegram_id) if "deleted</b>" in text), None)

    return str(await eventually(said))


async def test_deletion_asks_first_and_then_removes_everything(side: Side, gateways: Gateways) -> None:
    instance = await has_instance(side, ADA)
    await side.handle(text_message(2, ADA, "/delete"))
    await side.press(3, "Keep it", ADA)
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.AWAKE
    await side.press(4, "Delete everything", ADA)
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.ABSENT
    await side.send(text_message(5, ADA, "still there?"))
    before = await side.user(ADA)
    assert before is not None
    await side.remove(ADA, f"the container {instance.id}", "the volume, 12 MB")

    async def anew() -> bool:
        user = await side.user(ADA)
        return user is not None and user.created_at > before.created_at

    # The message that came meanwhile is the beginning of something new.
    await eventually(anew)
    assert f"• the container {instance.id}\n• the volume, 12 MB\n• 4 updates in the inbox\n" in await goodbye(side, ADA)
    await side.bring_up(ADA)
    await side.until(5, "delivered")
    assert gateways.update_ids("127.0.0.1") == [1, 5]
    assert [row.update_id for row in await side.rows() if row.telegram_id == ADA] == [5]


async def test_a_button_pressed_too_late_says_what_goes_on(side: Side) -> None:
    await has_instance(side, ADA)
    await side.handle(text_message(2, ADA, "/delete"))
    buttons = await side.buttons(ADA)
    await side.press(3, "Delete everything", ADA)
    await side.handle(press(4, ADA, buttons["Keep it"]))
    assert "Deleting your assistant" in (await side.said(ADA))[-1]
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.ABSENT
    await side.remove(ADA)
    await goodbye(side, ADA)


async def test_nothing_of_whoever_left_is_anywhere(side: Side, database: Database) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    instance = await side.bring_up(ADA)
    await side.send(photo_message(2, ADA, ["small", "large"]))
    await side.until(2, "delivered")
    await send_all(side, ADA)
    outbox = side.router._outbox
    spooled = outbox.spool.create(instance.id)
    spooled.write(b"x")
    spooled.close()
    upload = Upload("document", spooled.path, "private.txt", "text/plain", 1)
    async with database.write() as session:
        await outbox.enqueue(session, BotCall("sendDocument", {"chat_id": ADA}, ADA, instance.id, [upload]))
        session.add(Announcement(telegram_id=ADA, news=News.LATE_JOB, detail={"name": "x"}, created_at=now()))
        session.add(
            Usage(instance_id=instance.id, at=now(), model="m", prompt_tokens=1, completion_tokens=1, duration=1)
        )
    await side.handle(text_message(3, ADA, "/delete"))
    await side.press(4, "Delete everything", ADA)
    await side.remove(ADA, "the container")
    text = await goodbye(side, ADA)
    for line in ("the container", "4 updates in the inbox", "2 files noted", "1 file to be sent", "outgoing messages"):
        assert f"• {line}" in text or line in text
    assert not spooled.path.exists()
    await send_all(side, ADA)
    assert await mentions(database, ADA) == {}
    assert list(outbox.spool.folder.iterdir()) == []
    async with database.read() as session:
        # Counts of use stay, under a name that points to nobody.
        assert await session.scalar(select(func.count()).select_from(Usage)) == 1
        assert await places.taken(session) == 0
        assert (await session.scalars(select(Wish))).all() == []


@pytest.mark.parametrize("cut_after", [0.0, 0.02, 0.1])
async def test_a_front_that_is_killed_says_goodbye_once(
    context: FrontContext, gateways: Gateways, database: Database, cut_after: float
) -> None:
    async with running_side(context, gateways.port) as side:
        await has_instance(side, ADA)
        await side.handle(text_message(2, ADA, "/delete"))
        await side.press(3, "Delete everything", ADA)
        await side.remove(ADA, "the container")
        await asyncio.sleep(cut_after)
    async with running_side(context, gateways.port) as side:
        text = await goodbye(side, ADA)
        assert "• the container\n" in text
        assert sum("deleted</b>" in said for said in await side.said(ADA)) == 1
        assert await side.user(ADA) is None
    async with database.read() as session:
        assert (await session.scalars(select(Announcement))).all() == []


async def test_somebody_without_an_assistant_is_forgotten_at_once(
    make_settings: Callable[..., Settings], make_context: Callable[[Settings], FrontContext], gateways: Gateways
) -> None:
    context = make_context(make_settings(admission="invite"))
    async with running_side(context, gateways.port) as side:
        await side.handle(text_message(1, ADA, "/start"), text_message(2, ADA, "/delete"))
        user = await side.user(ADA)
        assert user is not None
        assert user.status == UserStatus.REFUSED
        assert "You have no assistant here" in (await side.said(ADA))[-1]
        async with context.database.write() as session:
            for call in await session.scalars(select(OutboxMessage)):
                call.status, call.finished_at = OutboxStatus.SENT, now()
        await side.press(3, "Delete everything", ADA)
        assert await side.user(ADA) is None
        # What was said before is forgotten, and the question does not say that something is still going on.
        assert [call.method for call in await side.calls(ADA)] == ["editMessageText"]
        (told,) = await side.said(ADA)
        assert "no assistant" in told
        assert "deleted</b>. Removed:\n\n• 3 updates in the inbox\n" in told
        await send_all(side, ADA)
        assert await mentions(context.database, ADA) == {}


async def test_a_suspension_outlives_the_deletion(side: Side, database: Database) -> None:
    await has_instance(side, ADA)
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        await people.suspend(session, user)
    await side.handle(text_message(2, ADA, "/delete"))
    await side.press(3, "Delete everything", ADA)
    await side.remove(ADA)
    assert "your access is suspended" in await goodbye(side, ADA)
    await send_all(side, ADA)
    assert set(await mentions(database, ADA)) == {"users.telegram_id", "outbox.chat_id"}
    user = await side.user(ADA)
    assert user is not None
    assert (user.status, user.first_name) == (UserStatus.SUSPENDED, "")


async def test_a_deletion_that_the_operator_asked_for_is_not_told(side: Side, database: Database) -> None:
    await has_instance(side, ADA)
    await send_all(side, ADA)
    async with database.write() as session:
        user = await people.find(session, ADA)
        assert user is not None
        number = await receipts.ask(session, ADA)
        await people.leave(session, user)
    await side.remove(ADA, "the container")

    async def gone() -> bool:
        return await side.user(ADA) is None

    await eventually(gone)
    assert not any("deleted" in text for text in await side.said(ADA))
    async with database.write() as session:
        receipt = await receipts.collect(session, number)
    assert receipt is not None
    assert receipt[0] == "the container"
    assert "outgoing message" in receipt[-1]
    await send_all(side, ADA)
    assert await mentions(database, ADA) == {}
