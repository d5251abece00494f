"""Whatever Telegram does, each message arrives once, in order, and no instance hears of its troubles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import select
from telegram import Bot, InputMediaPhoto, ReplyParameters
from telegram.error import BadRequest

from bot.front import metrics
from bot.front.outbox import BotCall, Limits, Outbox, Rate, rows
from bot.front.outbox.calls import provisional_id, row_of
from bot.front.outbox.wording import REPEAT_MARK
from bot.store.tables import OutboxMessage, OutboxStatus, User, UserStatus, Wanted, Wish
from bot.users import people
from tests.integration.front.botapi.conftest import FAST, Assistant, Eventually, MakeWorld, World

#: Answers after this many seconds are provisional.
IMPATIENT = replace(FAST, patience=0.1)


def counted(result: str) -> float:
    """Messages that ended so."""
    return float(metrics.OUTBOX_MESSAGES.labels(result)._value.get())


async def texts(world: World, assistant: Assistant) -> list[str]:
    """What the person reads."""
    return [message.text for message in await world.said(assistant)]


async def settled(world: World) -> bool:
    """Whether nothing waits any more."""
    return all(row.finished_at is not None for row in await world.rows())


@pytest.mark.parametrize("kind", ["too_many_requests", "bad_gateway"])
async def test_troubles_of_telegram_cost_nothing(world: World, kind: str) -> None:
    mine = await world.assistant()
    before = counted("uncertain")
    async with mine.bot() as bot:
        for number in range(12):
            if number % 6 == 0:
                await world.telegram.inject(kind, count=1, retry_after=1, methods=["sendMessage"])
            sent = await bot.send_message(mine.owner.id, str(number))
            assert row_of(sent.message_id) is None
    assert await texts(world, mine) == [str(number) for number in range(12)]
    assert counted("uncertain") == before


async def test_messages_of_an_outage_arrive_in_order_and_edits_find_them(
    make_world: MakeWorld, eventually: Eventually
) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await world.telegram.inject("bad_gateway", count=None)
            first = await bot.send_message(mine.owner.id, "first")
            second = await bot.send_message(mine.owner.id, "second")
            third = await bot.send_message(mine.owner.id, "third", reply_parameters=ReplyParameters(first.message_id))
            await bot.edit_message_text("second, better", mine.owner.id, second.message_id)
            await bot.send_message(mine.owner.id, "never seen")
            doomed = await bot.send_message(mine.owner.id, "deleted in time")
            await bot.delete_message(mine.owner.id, doomed.message_id)
            assert all(row_of(message.message_id) for message in (first, second, third, doomed))
            assert await texts(world, mine) == []
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
            # Later too, the provisional ids mean the real messages.
            await bot.edit_message_text("third, later", mine.owner.id, third.message_id)
            reply = await bot.send_message(
                mine.owner.id, "a reply", reply_parameters=ReplyParameters(second.message_id)
            )
            await bot.set_message_reaction(mine.owner.id, first.message_id, "👀")
            await bot.forward_message(mine.owner.id, mine.owner.id, first.message_id)
            await eventually(lambda: settled(world))
        said = await world.said(mine)
        assert [(message.text, message.edited) for message in said] == [
            ("first", False),
            ("second, better", False),
            ("third, later", True),
            ("never seen", False),
            ("a reply", False),
            ("first", False),
        ]
        assert said[2].raw["reply_to_message"]["message_id"] == said[0].id
        assert said[4].raw["reply_to_message"]["message_id"] == said[1].id
        assert said[4].id == reply.message_id or row_of(reply.message_id)
        assert said[0].reactions == ("👀",)
        assert await world.outbox.resolve(mine.owner.id, second.message_id) == said[1].id


async def test_an_album_in_an_outage_keeps_an_id_for_each_picture(
    make_world: MakeWorld, eventually: Eventually
) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await world.telegram.inject("bad_gateway", count=None)
            album = await bot.send_media_group(mine.owner.id, [InputMediaPhoto(b"one"), InputMediaPhoto(b"two")])
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
            await bot.edit_message_caption(mine.owner.id, album[1].message_id, caption="the second")
            await eventually(lambda: settled(world))
        assert await texts(world, mine) == ["", "the second"]
        assert list(world.outbox.spool.folder.iterdir()) == []


async def test_edits_while_telegram_is_away_become_one(make_world: MakeWorld, eventually: Eventually) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            sent = await bot.send_message(mine.owner.id, "draft 0")
            await world.telegram.inject("bad_gateway", count=None)
            for number in range(1, 6):
                await bot.edit_message_text(f"draft {number}", mine.owner.id, sent.message_id)
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
        assert await texts(world, mine) == ["draft 5"]
        edits = [row for row in await world.rows() if row.method == "editMessageText"]
        assert len(edits) <= 2


async def test_an_edit_of_a_message_that_was_refused_is_refused(make_world: MakeWorld, eventually: Eventually) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await world.telegram.inject("bad_gateway", count=None)
            # Telegram takes no message without a word, which only Telegram says.
            sent = await bot.send_message(mine.owner.id, "  ")
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
            with pytest.raises(BadRequest, match="Message to edit not found"):
                await bot.edit_message_text("shorter", mine.owner.id, sent.message_id)
        assert await texts(world, mine) == []


async def test_what_telegram_refuses_late_is_left_out(make_world: MakeWorld, eventually: Eventually) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await world.telegram.inject("bad_gateway", count=None)
            await bot.send_message(mine.owner.id, "<b>bold &amp; <i>broken</b>", parse_mode="HTML")
            await bot.send_message(mine.owner.id, "a reply", reply_parameters=ReplyParameters(999_999_999))
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
        assert await texts(world, mine) == ["bold & broken", "a reply"]


async def test_a_stranger_cannot_use_provisional_ids(make_world: MakeWorld, eventually: Eventually) -> None:
    async with make_world(IMPATIENT) as world:
        mine, other = await world.assistant(), await world.assistant()
        async with mine.bot() as bot, other.bot() as strange:
            await world.telegram.inject("bad_gateway", count=None, methods=["sendMessage"])
            sent = await bot.send_message(mine.owner.id, "mine")
            with pytest.raises(BadRequest):
                await strange.edit_message_text("theirs", other.owner.id, sent.message_id)
            with pytest.raises(BadRequest, match="Message to delete not found"):
                await strange.delete_message(other.owner.id, sent.message_id)
            await world.telegram.clear_faults()
            await eventually(lambda: settled(world))
        assert await texts(world, mine) == ["mine"]


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
async def test_a_message_cut_off_in_flight_is_repeated_once_with_a_mark(
    world: World, eventually: Eventually, kind: str
) -> None:
    mine = await world.assistant()
    before = counted("uncertain")
    async with mine.bot() as bot:
        await world.telegram.inject(kind, count=1, methods=["sendMessage"])
        sent = await bot.send_message(mine.owner.id, "hello")
        await bot.send_message(mine.owner.id, "next")
    shown = await texts(world, mine)
    repeat = f"hello\n\n{REPEAT_MARK}"
    assert shown == (["hello", repeat, "next"] if kind == "cut_after" else [repeat, "next"])
    assert (await world.said(mine))[-2].id == sent.message_id
    assert counted("uncertain") == before + 1
    assert [row.status for row in await world.rows()] == [OutboxStatus.UNCERTAIN, OutboxStatus.SENT]


async def test_an_edit_cut_off_in_flight_is_simply_repeated(world: World) -> None:
    mine = await world.assistant()
    before = counted("uncertain")
    async with mine.bot() as bot:
        sent = await bot.send_message(mine.owner.id, "one")
        await world.telegram.inject("cut", count=2, methods=["editMessageText"])
        await bot.edit_message_text("two", mine.owner.id, sent.message_id)
    assert await texts(world, mine) == ["two"]
    assert counted("uncertain") == before


async def killed(world: World, bot: Bot, mine: Assistant, text: str) -> None:
    """Kill the dispatcher between the sending and its record; what waits afterwards is in the database alone."""
    await world.telegram.inject("latency", count=1, delay=30.0, methods=["sendMessage"])
    waiting = asyncio.create_task(bot.send_message(mine.owner.id, text))
    async with asyncio.timeout(20):
        while not [row for row in await world.rows() if row.status == OutboxStatus.SENDING]:
            await asyncio.sleep(0.01)
    await world.stop()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_crash_between_sending_and_record_costs_a_marked_repeat(
    make_world: MakeWorld, eventually: Eventually
) -> None:
    async with make_world(replace(FAST, grace=0.0)) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await killed(world, bot, mine, "hello")
        # Telegram took it; only we do not know.
        await world.api.call("sendMessage", {"chat_id": mine.owner.id, "text": "hello"})
        before = counted("uncertain")
        world.outbox = Outbox(world.context, world.api, FAST)
        world.start()
        await eventually(lambda: settled(world))
        assert await texts(world, mine) == ["hello", f"hello\n\n{REPEAT_MARK}"]
        assert counted("uncertain") == before + 1


async def test_a_file_survives_a_crash_and_orphans_do_not(make_world: MakeWorld, eventually: Eventually) -> None:
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            await world.telegram.inject("bad_gateway", count=None)
            await bot.send_document(mine.owner.id, b"precious", filename="p.txt")
            await world.stop()
        (kept,) = list(world.outbox.spool.folder.iterdir())
        assert kept.stat().st_mode & 0o777 == 0o600
        (world.outbox.spool.folder / "u-owner00001.orphan").write_bytes(b"left behind")
        await world.telegram.clear_faults()
        world.outbox = Outbox(world.context, world.api, FAST)
        world.start()
        await eventually(lambda: settled(world))
        (message,) = await world.said(mine)
        file_id = message.raw["document"]["file_id"]
        path = (await world.api.call("getFile", {"file_id": file_id}))["result"]["file_path"]
        async with world.api.download(path) as answer:
            assert await answer.aread() == b"precious"
        assert list(world.outbox.spool.folder.iterdir()) == []


async def test_a_noisy_chat_does_not_hold_up_another(make_world: MakeWorld) -> None:
    limits = Limits(overall=Rate(10, 0.2), chat=Rate(1000, 1.0))
    async with make_world(replace(FAST, limits=limits)) as world:
        noisy, quiet = await world.assistant(), await world.assistant()
        async with world.context.database.write() as session:
            for number in range(200):
                await world.outbox.enqueue(
                    session, BotCall("sendMessage", {"chat_id": noisy.owner.id, "text": str(number)}, noisy.owner.id)
                )
        world.outbox.ring()
        async with quiet.bot() as bot:
            await bot.send_message(quiet.owner.id, "just one")
        shown = await texts(world, noisy)
        assert shown == [str(number) for number in range(len(shown))]
        # All two hundred take four seconds; one turn takes a fraction of one.
        assert len(shown) < 150


async def test_telegrams_own_limits_are_kept(make_world: MakeWorld) -> None:
    policy = replace(FAST, limits=Limits())
    async with make_world(policy, enforce_limits=True) as world:
        mine = await world.assistant()
        before = counted("limited")
        async with mine.bot() as bot:
            for number in range(8):
                await bot.send_message(mine.owner.id, str(number))
        assert await texts(world, mine) == [str(number) for number in range(8)]
        assert counted("limited") == before


async def test_typing_gives_way_to_messages(make_world: MakeWorld) -> None:
    limits = Limits(overall=Rate(1000, 1.0), chat=Rate(3, 60.0))
    async with make_world(replace(FAST, limits=limits)) as world:
        mine = await world.assistant()
        async with mine.bot() as bot:
            for _ in range(10):
                assert await bot.send_chat_action(mine.owner.id, "typing")
            await bot.send_message(mine.owner.id, "there is room for me")
        assert len(await world.telegram.calls("sendChatAction")) == 2
        assert await texts(world, mine) == ["there is room for me"]


async def test_zakis_own_progress_message_is_edited_before_and_after_it_is_sent(
    world: World, eventually: Eventually
) -> None:
    mine = await world.assistant()
    chat = mine.owner.id

    async def edit(text: str, row: int) -> None:
        params = {"chat_id": chat, "message_id": {"outbox": row}, "text": text}
        async with world.context.database.write() as session:
            await world.outbox.enqueue(session, BotCall("editMessageText", params, chat))

    async with world.context.database.write() as session:
        row = await world.outbox.enqueue(session, BotCall("sendMessage", {"chat_id": chat, "text": "0"}, chat))
    await edit("1", row)
    world.outbox.ring()
    await eventually(lambda: settled(world))
    assert [(message.text, message.edited) for message in await world.said(mine)] == [("1", False)]
    await edit("2", row)
    world.outbox.ring()
    await eventually(lambda: settled(world))
    assert [(message.text, message.edited) for message in await world.said(mine)] == [("2", True)]
    assert await world.outbox.resolve(chat, provisional_id(row)) == (await world.said(mine))[0].id


async def test_what_is_not_committed_is_not_sent(world: World, eventually: Eventually) -> None:
    mine = await world.assistant()
    chat = mine.owner.id
    with pytest.raises(RuntimeError):
        async with world.context.database.write() as session:
            await world.outbox.enqueue(session, BotCall("sendMessage", {"chat_id": chat, "text": "no"}, chat))
            raise RuntimeError
    world.outbox.ring()
    async with mine.bot() as bot:
        await bot.send_message(chat, "yes")
    assert await texts(world, mine) == ["yes"]


async def test_finished_rows_keep_nothing_that_was_said(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        await bot.send_document(mine.owner.id, b"x", filename="private.txt", caption="a secret")
    (row,) = await world.rows()
    assert row.params == {}
    assert row.files is None
    assert "secret" not in str(row.response)
    async with world.context.database.write() as session:
        forgotten = await rows.forget(session, mine.owner.id, world.outbox.spool.folder)
    assert forgotten.lines == ["1 outgoing message"]
    assert await world.rows() == []


async def test_old_rows_are_pruned(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        for text in ("old", "told", "new"):
            await bot.send_message(mine.owner.id, text)
    async with world.context.database.write() as session:
        old, told, _ = (await session.scalars(select(OutboxMessage).order_by(OutboxMessage.id))).all()
        old.finished_at = told.finished_at = (old.finished_at or 0) - 49 * 3600
        told.provisional_id = provisional_id(told.id)
    await world.outbox._prune()
    assert [row.id for row in await world.rows()] == [2, 3]


async def test_an_instance_with_too_much_waiting_is_not_heard(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.front.outbox.outbox._MOST_WAITING", 5)
    async with make_world(IMPATIENT) as world:
        mine = await world.assistant()
        await world.telegram.inject("bad_gateway", count=None)
        async with mine.http() as http:
            answers = [
                (await http.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "x"})).status_code
                for _ in range(7)
            ]
            file = await http.post("/sendDocument", data={"chat_id": mine.owner.id}, files={"document": ("x", b"x")})
        assert answers == [200] * 5 + [400] * 2
        assert file.status_code == 400
        assert list(world.outbox.spool.folder.iterdir()) == []


async def test_an_instance_with_too_much_to_say_is_not_heard(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.front.outbox.outbox._MOST_BYTES", 10_000)
    async with make_world(IMPATIENT) as world:
        mine, other = await world.assistant(), await world.assistant()
        await world.telegram.inject("bad_gateway", count=None)
        async with mine.http() as http:
            call = {"chat_id": mine.owner.id, "text": "x" * 4000}
            answers = [await http.post("/sendMessage", json=call) for _ in range(4)]
            assert (await http.post("/sendMessage", json={**call, "text": "short"})).status_code == 200
        assert [answer.status_code for answer in answers] == [200, 200, 400, 400]
        assert answers[-1].json()["description"].startswith("Bad Request: too many messages wait")
        async with other.http() as http:
            call = {"chat_id": other.owner.id, "text": "x" * 4000}
            assert (await http.post("/sendMessage", json=call)).status_code == 200


@pytest.mark.parametrize(("wanted", "then"), [(Wanted.AWAKE, Wanted.STOPPED), (Wanted.ABSENT, Wanted.ABSENT)])
@pytest.mark.parametrize("reason", ["bot was blocked by the user", "user is deactivated"])
async def test_nobodys_instance_runs_on(world: World, wanted: Wanted, then: Wanted, reason: str) -> None:
    mine = await world.assistant()
    async with world.context.database.write() as session:
        user = await people.find(session, mine.owner.id)
        assert user is not None
        await people.wish(session, user, wanted)
    answer = {"ok": False, "error_code": 403, "description": f"Forbidden: {reason}"}
    world.api.call = AsyncMock(return_value=answer)  # type: ignore[method-assign]
    async with mine.http() as http:
        refused = await http.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "hello?"})
    assert refused.json() == answer
    async with world.context.database.read() as session:
        user = (await session.scalars(select(User).where(User.telegram_id == mine.owner.id))).one()
        wish = await session.get_one(Wish, user.id)
    assert (user.status, wish.wanted) == (UserStatus.BLOCKED, then)
