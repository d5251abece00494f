"""What an instance may not do is refused in the Bot API's shape, and written down."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select
from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.error import Forbidden, InvalidToken

from bot.front import metrics
from bot.store.tables import AuditEntry, Instance
from tests.integration.front.botapi.conftest import World

#: Nothing here depends on the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def audited(world: World) -> list[tuple[str | None, str, str]]:
    """Who was refused what."""
    async with world.context.database.read() as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    return [(entry.instance_id, entry.action, entry.detail) for entry in entries]


def unauthorized() -> float:
    """Calls that were refused for their token."""
    return sum(
        sample.value
        for metric in metrics.BOTAPI_REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["result"] == "unauthorized"
    )


UNAUTHORIZED = {"ok": False, "error_code": 401, "description": "Unauthorized"}


async def test_a_token_holds_at_its_own_address_alone(world: World) -> None:
    mine, other = await world.assistant(), await world.assistant()
    before = unauthorized()
    async with mine.http(address=other.address) as http:
        answer = await http.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "hi"})
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    with pytest.raises(InvalidToken):
        async with mine.bot(address="127.0.0.99"):
            pass
    assert unauthorized() == before + 2
    assert await world.rows() == []


@pytest.mark.parametrize("change", ["other", "last", "nobody", "shape", "revoked"])
async def test_a_wrong_token_is_refused(world: World, change: str) -> None:
    mine, other = await world.assistant(), await world.assistant()
    token = mine.token
    if change == "other":
        token = other.token
    elif change == "last":
        token = token[:-1] + ("a" if token[-1] != "a" else "b")
    elif change == "nobody":
        token = world.context.key.derive("u-nobody0000", 1).bot_token
    elif change == "shape":
        token = "1:x"
    else:
        async with world.context.database.write() as session:
            (await session.get_one(Instance, mine.id)).credentials_epoch += 1
    async with mine.http() as http:
        answer = await http.post(
            f"{world.url}/telegram/bot{token}/sendMessage", json={"chat_id": mine.owner.id, "text": "hi"}
        )
        download = await http.get(f"{world.url}/telegram/file/bot{token}/documents/file_1")
    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert (download.status_code, download.json()) == (401, UNAUTHORIZED)
    assert await world.rows() == []


ELSEWHERE: list[tuple[str, dict[str, Any]]] = [
    ("sendMessage", {"chat_id": "THEIRS", "text": "x"}),
    ("sendMessage", {"chat_id": "@channel", "text": "x"}),
    ("SENDMESSAGE", {"chat_id": "THEIRS", "text": "x"}),
    ("sendChatAction", {"chat_id": "THEIRS", "action": "typing"}),
    ("sendMessageDraft", {"chat_id": "THEIRS", "draft_id": 1, "text": "x"}),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "reply_parameters": {"message_id": 1, "chat_id": "THEIRS"}}),
    ("forwardMessage", {"chat_id": "MINE", "from_chat_id": "THEIRS", "message_id": 1}),
    ("forwardMessage", {"chat_id": "THEIRS", "from_chat_id": "MINE", "message_id": 1}),
    ("copyMessage", {"chat_id": "MINE", "from_chat_id": "THEIRS", "message_id": 1}),
    ("copyMessages", {"chat_id": "MINE", "from_chat_id": "THEIRS", "message_ids": [1]}),
    ("getChat", {"chat_id": "THEIRS"}),
    ("getChatMember", {"chat_id": "MINE", "user_id": "THEIRS"}),
    ("getUserProfilePhotos", {"user_id": "THEIRS"}),
    ("editMessageText", {"chat_id": "THEIRS", "message_id": 1, "text": "x"}),
    ("editMessageText", {"inline_message_id": "abc", "text": "x"}),
    ("deleteMessage", {"chat_id": "THEIRS", "message_id": 1}),
    ("deleteMessages", {"chat_id": "THEIRS", "message_ids": [1]}),
    ("setMessageReaction", {"chat_id": "THEIRS", "message_id": 1, "reaction": []}),
    ("pinChatMessage", {"chat_id": "THEIRS", "message_id": 1}),
    ("createForumTopic", {"chat_id": "THEIRS", "name": "x"}),
    ("setMyCommands", {"commands": [], "scope": {"type": "chat", "chat_id": "THEIRS"}}),
    ("setMyCommands", {"commands": [], "scope": {"type": "chat_member", "chat_id": "MINE", "user_id": "THEIRS"}}),
    ("deleteMyCommands", {"scope": {"type": "chat", "chat_id": "THEIRS"}}),
    ("getMyCommands", {"scope": {"type": "chat", "chat_id": "THEIRS"}}),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "business_connection_id": "abc"}),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "receiver_user_id": "THEIRS"}),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "a_new_way_to_name_a_channel": "@x"}),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "new_object": {"deep": [{"user_id": "THEIRS"}]}}),
    (
        "sendMessage",
        {"chat_id": "MINE", "text": "x", "entities": [{"type": "text_mention", "user": {"id": "THEIRS"}}]},
    ),
    ("sendMessage", {"chat_id": "MINE", "text": "x", "allow_paid_broadcast": True}),
    ("sendInvoice", {"chat_id": "MINE"}),
    ("setMyName", {"name": "x"}),
    ("setChatMenuButton", {"chat_id": "MINE"}),
    ("banChatMember", {"chat_id": "MINE", "user_id": "MINE"}),
    ("logOut", {}),
    ("close", {}),
    ("answerInlineQuery", {"inline_query_id": "1", "results": []}),
    ("aMethodOfTheFuture", {}),
]


def placed(value: Any, mine: int, theirs: int, text: bool) -> Any:
    """The same with real chat ids, as numbers or as text."""
    if isinstance(value, dict):
        return {name: placed(item, mine, theirs, text) for name, item in value.items()}
    if isinstance(value, list):
        return [placed(item, mine, theirs, text) for item in value]
    number = {"MINE": mine, "THEIRS": theirs}.get(value) if isinstance(value, str) else None
    return value if number is None else str(number) if text else number


@pytest.mark.parametrize("way", ["json", "text", "form", "query", "multipart"])
async def test_nothing_reaches_beyond_the_owners_chat(world: World, way: str) -> None:
    mine, other = await world.assistant(), await world.assistant()
    before = len(await world.telegram.calls())
    async with mine.http() as http:
        for name, template in ELSEWHERE:
            params = placed(template, mine.owner.id, other.owner.id, text=way == "text")
            flat = {field: value if isinstance(value, str) else json.dumps(value) for field, value in params.items()}
            if way in ("json", "text"):
                answer = await http.post(f"/{name}", json=params)
            elif way == "form":
                answer = await http.post(f"/{name}", data=flat)
            elif way == "query":
                answer = await http.get(f"/{name}", params=flat)
            else:
                parts = {field: (None, value.encode()) for field, value in flat.items()}
                answer = await http.post(f"/{name}", files=parts or {"x": (None, b"")})
            assert answer.status_code == 403, (name, params, answer.text)
            assert answer.json()["ok"] is False
            assert answer.json()["error_code"] == 403
            assert answer.json()["description"].startswith("Forbidden: ")
    assert await world.rows() == []
    assert len(await world.telegram.calls()) == before
    entries = await audited(world)
    # Each is counted and logged; what is written down is bounded.
    assert len(entries) == 20
    assert {instance for instance, _, _ in entries} == {mine.id}
    assert "botapi.sendMessage" in {action for _, action, _ in entries}


@pytest.mark.parametrize("data", ["zk:delete", " zk:delete", "ZK:delete"])
async def test_zakis_own_buttons_cannot_be_forged(world: World, data: str) -> None:
    mine = await world.assistant()
    keyboard = InlineKeyboardMarkup(
        [[InlineKeyboardButton("ok", callback_data="ok")], [InlineKeyboardButton("Delete", callback_data=data)]]
    )
    async with mine.bot() as bot:
        sent = await bot.send_message(mine.owner.id, "hi")
        with pytest.raises(Forbidden):
            await bot.send_message(mine.owner.id, "hi", reply_markup=keyboard)
        with pytest.raises(Forbidden):
            await bot.edit_message_reply_markup(mine.owner.id, sent.message_id, reply_markup=keyboard)
        with pytest.raises(Forbidden):
            await bot.send_document(mine.owner.id, b"x", filename="x", reply_markup=keyboard)
    (shown,) = await world.said(mine)
    assert shown.buttons == ()
    assert list(world.outbox.spool.folder.iterdir()) == []


@pytest.mark.parametrize(
    "button",
    [
        {"web_app": {"url": "https://evil.invalid"}},
        {"login_url": {"url": "https://evil.invalid"}},
        {"pay": True},
        {"callback_game": {}},
        {"switch_inline_query": "x"},
        {"a_new_kind": 1},
    ],
)
async def test_buttons_that_speak_for_the_bot_are_refused(world: World, button: dict[str, Any]) -> None:
    mine = await world.assistant()
    async with mine.http() as http:
        for markup in ({"inline_keyboard": [[{"text": "x", **button}]]}, {"keyboard": [[{"text": "x", **button}]]}):
            answer = await http.post(
                "/sendMessage", json={"chat_id": mine.owner.id, "text": "x", "reply_markup": markup}
            )
            assert answer.status_code == 403
    assert await world.said(mine) == []


async def test_an_unknown_harmless_field_is_passed_on(world: World) -> None:
    mine = await world.assistant()
    async with mine.http() as http:
        answer = await http.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "x", "new_sparkle": "gold"})
    assert answer.json()["ok"] is True
    assert (await world.telegram.calls("sendMessage"))[-1].params["new_sparkle"] == "gold"


async def test_a_value_cannot_be_given_twice(world: World) -> None:
    mine, other = await world.assistant(), await world.assistant()
    async with mine.http() as http:
        for answer in (
            await http.post(f"/sendMessage?chat_id={other.owner.id}", json={"chat_id": mine.owner.id, "text": "x"}),
            await http.get(f"/sendMessage?chat_id={mine.owner.id}&chat_id={other.owner.id}&text=x"),
        ):
            assert answer.status_code == 400
    assert await world.rows() == []


async def test_a_file_that_is_too_large_is_refused_and_not_kept(world: World) -> None:
    mine = await world.assistant()
    world.outbox.spool._largest_file = 1000
    async with mine.http() as http:
        for size, status in ((1000, 200), (1001, 413)):
            answer = await http.post(
                "/sendDocument", data={"chat_id": str(mine.owner.id)}, files={"document": ("x", b"x" * size)}
            )
            assert answer.status_code == status
            assert answer.json()["ok"] is (status == 200)
        answer = await http.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "x" * 2**20})
        assert answer.status_code == 413
    assert list(world.outbox.spool.folder.iterdir()) == []


async def test_a_request_beside_its_files_is_small(world: World) -> None:
    mine = await world.assistant()
    chat = {"chat_id": str(mine.owner.id)}
    async with mine.http() as http:
        for size, status in ((60_000, 200), (70_000, 413)):
            answer = await http.post("/sendMessage", json={**chat, "text": "x", "more": "x" * size})
            assert answer.status_code == status
            answer = await http.post(
                "/sendDocument", data={**chat, "more": "x" * size}, files={"document": ("x", b"x")}
            )
            assert answer.status_code == status
        answer = await http.post("/sendRichMessage", json={**chat, "rich_message": {"text": "ж" * 32_768}})
        assert answer.status_code != 413
    assert list(world.outbox.spool.folder.iterdir()) == []


async def test_a_request_that_does_not_arrive_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.front.botapi.requests._WITHIN", 0.1)
    mine = await world.assistant()
    host, _, port = mine.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(mine.address, 0))
    writer.write(
        f"POST /telegram/bot{mine.token}/sendMessage HTTP/1.1\r\nHost: zaki\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
    )
    async with asyncio.timeout(10):
        assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_files_that_are_not_asked_for_are_refused(world: World) -> None:
    mine = await world.assistant()
    chat = {"chat_id": str(mine.owner.id)}
    async with mine.http() as http:
        for name, data, files in (
            ("sendDocument", {**chat, "document": "attach://missing"}, {"other": ("x", b"x")}),
            ("sendDocument", chat, {"document": ("x", b"x"), "extra": ("x", b"x")}),
            ("sendMessage", {**chat, "text": "x"}, {"text2": ("x", b"x")}),
            ("setWebhook", {"url": "https://x.invalid"}, {"certificate": ("x", b"x")}),
            ("getChat", chat, {"x": ("x", b"x")}),
        ):
            answer = await http.post(f"/{name}", data=data, files=files)
            assert answer.status_code == 400, name
    assert list(world.outbox.spool.folder.iterdir()) == []
    assert await world.rows() == []
