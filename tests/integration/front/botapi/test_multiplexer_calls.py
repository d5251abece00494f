"""What an instance says comes out in its owner's chat, and what it asks is answered for that chat."""

from __future__ import annotations

import logging

import pytest
import structlog
from sqlalchemy import select
from telegram import (
    BotCommand,
    BotCommandScopeAllGroupChats,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaPhoto,
    ReplyParameters,
)
from telegram.error import BadRequest, Conflict, Forbidden

from bot.front import seen_files
from bot.front.menu import COMMANDS
from bot.store.tables import TimelineEntry, User, UserStatus
from bot.timeline import Stage, note
from tests.integration.front.botapi.conftest import REAL_TOKEN, World

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)
OURS = [name for name, _ in COMMANDS]


async def test_a_text_with_markup_a_button_and_a_reply(world: World) -> None:
    mine = await world.assistant()
    question = (await world.telegram.messages(mine.owner))[0]
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])
    async with mine.bot() as bot:
        sent = await bot.send_message(
            mine.owner.id,
            "<b>Really?</b>",
            parse_mode="HTML",
            reply_markup=keyboard,
            reply_parameters=ReplyParameters(question.id, chat_id=mine.owner.id),
        )
    (shown,) = await world.said(mine)
    assert shown.id == sent.message_id
    assert shown.text == "Really?"
    assert shown.buttons[0][0].data == "yes"
    assert shown.raw["reply_to_message"]["message_id"] == question.id


async def test_a_message_is_edited_reacted_to_pinned_and_deleted(world: World) -> None:
    mine = await world.assistant()
    question = (await world.telegram.messages(mine.owner))[0]
    async with mine.bot() as bot:
        sent = await bot.send_message(mine.owner.id, "one")
        await bot.edit_message_text("two", mine.owner.id, sent.message_id)
        await bot.set_message_reaction(mine.owner.id, question.id, "👀")
        await bot.pin_chat_message(mine.owner.id, sent.message_id)
        assert [(shown.text, shown.edited) for shown in await world.said(mine)] == [("two", True)]
        assert (await world.telegram.messages(mine.owner))[0].reactions == ("👀",)
        await bot.unpin_chat_message(mine.owner.id, sent.message_id)
        await bot.delete_message(mine.owner.id, sent.message_id)
    assert await world.said(mine) == []


async def test_files_go_out_and_leave_the_spool(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        sent = await bot.send_document(mine.owner.id, b"a,b\n1,2\n", filename="täble x.csv", caption="look")
        album = await bot.send_media_group(mine.owner.id, [InputMediaPhoto(PICTURE), InputMediaPhoto(PICTURE)])
        again = await bot.send_document(mine.owner.id, sent.document.file_id if sent.document else "")
    assert sent.document is not None
    assert sent.document.file_name == "täble x.csv"
    assert again.document is not None
    assert len(album) == 2
    assert [shown.text for shown in await world.said(mine)] == ["look", "", "", ""]
    assert list(world.outbox.spool.folder.iterdir()) == []


async def test_a_large_file_goes_through_whole(world: World) -> None:
    mine = await world.assistant()
    content = bytes(range(256)) * 4096 * 10
    async with mine.bot() as bot:
        sent = await bot.send_document(mine.owner.id, content, filename="big.bin")
        assert sent.document is not None
        file = await bot.get_file(sent.document.file_id)
        assert bytes(await file.download_as_bytearray()) == content


async def test_a_file_of_the_owner_is_downloaded_by_a_path_of_ours(world: World) -> None:
    mine, other = await world.assistant(), await world.assistant()
    message = await world.telegram.send_file(mine.owner, "document", "notes.txt", b"read me")
    file_id = message.raw["document"]["file_id"]
    async with world.context.database.write() as session:
        await seen_files.remember(session, mine.owner.id, message.raw)
    async with mine.bot() as bot:
        file = await bot.get_file(file_id)
        assert bytes(await file.download_as_bytearray()) == b"read me"
    telegrams = (await world.api.call("getFile", {"file_id": file_id}))["result"]["file_path"]
    assert file.file_path is not None
    ours = file.file_path.partition(f"/file/bot{mine.token}/")[2]
    assert telegrams not in ours
    assert ours.endswith(".txt")
    async with mine.http() as http, other.http() as stranger:
        for path in (telegrams, ours.replace("/", "x/", 1), "../" + ours, ours.partition("/")[2]):
            answer = await http.get(f"{world.url}/telegram/file/bot{mine.token}/{path}")
            assert answer.status_code == 404
        answer = await stranger.get(f"{world.url}/telegram/file/bot{other.token}/{ours}")
        assert answer.status_code == 404
        answer = await stranger.get(f"{world.url}/telegram/file/bot{mine.token}/{ours}")
        assert answer.status_code == 401


async def test_a_file_of_somebody_else_cannot_be_named(world: World) -> None:
    mine, other = await world.assistant(), await world.assistant()
    message = await world.telegram.send_file(other.owner, "document", "secret.txt", b"secret")
    file_id = message.raw["document"]["file_id"]
    async with world.context.database.write() as session:
        await seen_files.remember(session, other.owner.id, message.raw)
    async with mine.bot() as bot:
        with pytest.raises(BadRequest, match=r"[Ww]rong file identifier"):
            await bot.get_file(file_id)
        with pytest.raises(BadRequest, match=r"[Ww]rong file identifier"):
            await bot.send_document(mine.owner.id, file_id)
        with pytest.raises(BadRequest, match=r"[Ww]rong file identifier"):
            await bot.send_media_group(mine.owner.id, [InputMediaPhoto(file_id), InputMediaPhoto(PICTURE)])
    async with mine.http() as http:
        # A Bot API server of one's own might read it.
        answer = await http.post("/sendDocument", json={"chat_id": mine.owner.id, "document": "file:///etc/passwd"})
        assert answer.status_code == 400
    assert await world.said(mine) == []
    assert list(world.outbox.spool.folder.iterdir()) == []


async def test_the_bot_introduces_itself_also_while_telegram_is_away(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        assert bot.username == world.simulator.config.bot_username
        assert bot.id == world.simulator.config.bot_id
        await world.telegram.inject("bad_gateway", count=None)
        assert (await bot.get_me()).username == world.simulator.config.bot_username


async def test_webhooks_are_an_instances_own_affair(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        assert await bot.set_webhook("https://zaki.invalid/hook", secret_token="x")
        assert (await bot.get_webhook_info()).url == "https://zaki.invalid/hook"
        with pytest.raises(Conflict):
            await bot.get_updates()
        assert await bot.delete_webhook()
        assert (await bot.get_webhook_info()).url == ""
    assert (await world.api.call("getWebhookInfo", {}))["result"]["url"] == ""


async def test_the_menu_has_zakis_commands_first(world: World) -> None:
    mine, other = await world.assistant(), await world.assistant()
    async with mine.bot() as bot:
        await bot.set_my_commands([BotCommand("new", "Begin anew"), BotCommand("status", "Mine"), BotCommand("x", "y")])
        await bot.set_my_commands([BotCommand("group", "No")], scope=BotCommandScopeAllGroupChats())
        assert [command.command for command in await bot.get_my_commands()] == ["new", "x"]
        scope = {"type": "chat", "chat_id": mine.owner.id}
        menu = (await world.api.call("getMyCommands", {"scope": scope}))["result"]
        assert [command["command"] for command in menu] == [*OURS, "new", "x"]
        await bot.delete_my_commands()
        menu = (await world.api.call("getMyCommands", {"scope": scope}))["result"]
        assert [command["command"] for command in menu] == OURS
    for elsewhere in ({"type": "default"}, {"type": "all_group_chats"}, {"type": "chat", "chat_id": other.owner.id}):
        assert (await world.api.call("getMyCommands", {"scope": elsewhere}))["result"] == []


async def test_what_telegram_refuses_is_passed_on(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        with pytest.raises(BadRequest, match="parse entities"):
            await bot.send_message(mine.owner.id, "<b>never closed", parse_mode="HTML")
        await world.telegram.block(mine.owner)
        with pytest.raises(Forbidden, match="blocked by the user"):
            await bot.send_message(mine.owner.id, "Are you there?")
    async with world.context.database.read() as session:
        status = await session.scalar(select(User.status).where(User.telegram_id == mine.owner.id))
    assert status == UserStatus.BLOCKED


async def test_typing_is_shown_and_a_button_is_answered(world: World) -> None:
    mine = await world.assistant()
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="yes")]])
    async with mine.bot() as bot:
        assert await bot.send_chat_action(mine.owner.id, "typing")
        await bot.send_message(mine.owner.id, "Really?", reply_markup=keyboard)
        (shown,) = await world.said(mine)
        query = await world.telegram.press(mine.owner, shown, "Yes")
        assert await bot.answer_callback_query(query, "Thanks")
    assert {call.method for call in await world.telegram.calls()} >= {"sendChatAction", "answerCallbackQuery"}


async def test_the_first_reply_after_a_delivery_is_noted_once(world: World) -> None:
    mine = await world.assistant()

    async def stages() -> list[str]:
        async with world.context.database.read() as session:
            query = select(TimelineEntry.stage).where(TimelineEntry.telegram_id == mine.owner.id)
            return list((await session.scalars(query.order_by(TimelineEntry.id))).all())

    async with mine.bot() as bot:
        for _ in range(2):
            async with world.context.database.write() as session:
                note(session, mine.owner.id, Stage.RECEIVED)
                note(session, mine.owner.id, Stage.DELIVERED)
            await bot.send_chat_action(mine.owner.id, "typing")
            assert (await stages())[-1] == Stage.DELIVERED
            sent = await bot.send_message(mine.owner.id, "one")
            await bot.send_message(mine.owner.id, "two")
            await bot.delete_message(mine.owner.id, sent.message_id)
    assert await stages() == [Stage.RECEIVED, Stage.DELIVERED, Stage.REPLIED] * 2


async def test_the_real_token_is_in_no_answer_and_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    mine = await world.assistant()
    answers: list[str] = []
    with structlog.testing.capture_logs() as events:
        async with mine.http() as http:
            for name, params in (
                ("getMe", {}),
                ("getWebhookInfo", {}),
                ("sendMessage", {"chat_id": mine.owner.id, "text": "hi"}),
                ("sendMessage", {"chat_id": mine.owner.id, "text": ""}),
                ("getChat", {"chat_id": mine.owner.id}),
                ("nonsense", {}),
            ):
                answers.append((await http.post(f"/{name}", json=params)).text)
            for kind in ("cut", "bad_gateway", "cut_after"):
                await world.telegram.inject(kind, count=1, methods=["sendMessage"])
                message = {"chat_id": mine.owner.id, "text": kind}
                answers.append((await http.post("/sendMessage", json=message)).text)
    assert len(await world.said(mine)) >= 4
    secret = REAL_TOKEN.partition(":")[2]
    for text in (*answers, caplog.text, str(events), *(str(row.last_error) for row in await world.rows())):
        assert secret not in text
    assert any("HTTP Request" in record.getMessage() for record in caplog.records)
