"""Updates as bytes: cut out exactly, and told whose they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Update

from bot.front.menu import COMMANDS, NAME_QUESTION
from bot.front.updates import (
    UPDATE_KINDS,
    Command,
    NotAnUpdate,
    command_of,
    read_update,
    sender_of,
    split_updates,
)
from tests.updates import membership, person, press, text_message

ADA = 4711

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_ITEMS = st.dictionaries(st.text(), _VALUES, max_size=4)
_SPACES = st.text(alphabet=" \t\r\n", max_size=3)


@given(items=st.lists(_ITEMS, max_size=5), data=st.data())
def test_each_update_keeps_its_bytes(items: list[dict[str, Any]], data: st.DataObject) -> None:
    def space() -> str:
        return data.draw(_SPACES)

    written = [
        json.dumps(
            item,
            ensure_ascii=data.draw(st.booleans()),
            indent=data.draw(st.none() | st.integers(0, 3)),
            separators=data.draw(st.sampled_from([None, (",", ":"), (" , ", " : ")])),
        ).encode("utf-8", "replace")
        for item in items
    ]
    inside = f"{space()},{space()}".encode().join(written)
    before = json.dumps(data.draw(st.dictionaries(st.text().filter(lambda name: name != "result"), _VALUES)))
    head = before[:-1] + ("," if len(before) > 2 else "")
    answer = f'{space()}{head}{space()}"result"{space()}:{space()}[{space()}'.encode("utf-8", "replace")
    answer += inside + f'{space()}]{space()},{space()}"ok":true}}{space()}'.encode()
    assert split_updates(answer) == written


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b'{"ok":true}',
        b'{"ok":true,"result":true}',
        b'{"ok":true,"result":[{}',
        b'{"ok":true,"result":[{},]}',
        b'{"ok":true,"result":[{} {}]}',
        b'{"ok":true,"result":[\xff]}',
        b'{"result":[' + b"[" * 100_000,
        b"<html>",
    ],
)
def test_what_is_no_list_of_updates_is_said_so(answer: bytes) -> None:
    with pytest.raises(NotAnUpdate):
        split_updates(answer)


@given(body=st.binary() | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    try:
        arrival = read_update(body)
    except NotAnUpdate:
        return
    arrival.kind.encode()
    assert arrival.body == body


@pytest.mark.parametrize(
    ("body", "recipient"),
    [
        (text_message(1, ADA, "hello"), "instance"),
        (text_message(1, ADA, "/new"), "instance"),
        (text_message(1, ADA, "/startle"), "instance"),
        (text_message(1, ADA, "tell me about /start"), "instance"),
        (text_message(1, ADA, "/Start@zaki_bot CODE"), "zaki"),
        (text_message(1, ADA, "Ada", reply_to=NAME_QUESTION), "zaki"),
        (text_message(1, ADA, "Ada", reply_to="What is your name?"), "instance"),
        (press(1, ADA, "zk:name:skip:AAAA"), "zaki"),
        (press(1, ADA, "agent:approve"), "instance"),
        (membership(1, ADA, blocked=True), "zaki"),
    ],
)
def test_who_an_update_is_for(body: bytes, recipient: str) -> None:
    arrival = read_update(body)
    assert (arrival.telegram_id, arrival.recipient) == (ADA, recipient)


def _raw(kind: str, **payload: Any) -> bytes:
    return json.dumps({"update_id": 1, kind: payload}).encode()


_USER = {"id": ADA, "is_bot": False, "first_name": "Ada"}
_PRIVATE = {"id": ADA, "type": "private"}
_GROUP = {"id": -100, "type": "supergroup"}


@pytest.mark.parametrize(
    ("body", "recipient"),
    [
        (_raw("message", **{"from": _USER, "chat": _PRIVATE}), "instance"),
        (_raw("message", **{"from": _USER, "chat": _GROUP, "text": "/start"}), "nobody"),
        (_raw("edited_message", **{"from": _USER, "chat": _PRIVATE, "text": "new"}), "instance"),
        (_raw("edited_message", **{"from": _USER, "chat": _PRIVATE, "text": "/delete"}), "zaki"),
        (_raw("message_reaction", user=_USER, chat=_PRIVATE), "instance"),
        (_raw("message_reaction", user=_USER, chat=_GROUP), "nobody"),
        (_raw("poll_answer", user=_USER, poll_id="1"), "instance"),
        (_raw("channel_post", chat={"id": -1, "type": "channel"}), "nobody"),
        (_raw("callback_query", **{"from": _USER, "data": "zk:x", "message": {"chat": _GROUP}}), "nobody"),
        (_raw("callback_query", **{"from": _USER, "data": "x", "inline_message_id": "1"}), "nobody"),
        (_raw("inline_query", **{"from": _USER, "query": "x"}), "nobody"),
        (_raw("my_chat_member", **{"from": _USER, "chat": _GROUP}), "nobody"),
        # Somebody's chat, in the name of somebody else.
        (_raw("message", **{"from": _USER, "chat": {"id": 5, "type": "private"}}), "nobody"),
        (_raw("message", **{"from": {"id": True}, "chat": _PRIVATE}), "nobody"),
        (_raw("message", **{"from": {"id": 2**63}, "chat": {"id": 2**63, "type": "private"}}), "nobody"),
        (_raw("what_comes_next_year", **{"from": _USER, "chat": _PRIVATE}), "nobody"),
    ],
)
def test_what_is_for_nobody(body: bytes, recipient: str) -> None:
    assert read_update(body).recipient == recipient


def test_callbacks_live_as_long_as_telegram_keeps_them() -> None:
    assert read_update(press(1, ADA, "x")).life == 150
    assert read_update(text_message(1, ADA, "x")).life == 24 * 3600


def test_every_kind_of_update_is_asked_for() -> None:
    assert set(UPDATE_KINDS) == {str(kind) for kind in Update.ALL_TYPES}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/start", Command("start", "")),
        ("/START", Command("start", "")),
        ("/start CODE", Command("start", "CODE")),
        ("/start@zaki_bot  two words ", Command("start", "two words")),
        ("/start\nCODE", Command("start", "CODE")),
        ("start", None),
        (" /start", None),
        ("/", None),
        ("/start-now", None),
        ("//start", None),
        ("/" + "a" * 33, None),
    ],
)
def test_commands(text: str, command: Command | None) -> None:
    assert command_of({"text": text}) == command
    assert command_of({"caption": text}) is None


def test_the_sender_is_fit_for_a_database() -> None:
    name = "A\0\ud83d" + "x" * 100
    update = {"update_id": 1, "message": {"from": {"id": ADA, "first_name": name, "language_code": 5}}}
    sender = sender_of(update)
    assert sender is not None
    assert sender.first_name == "A?" + "x" * 62
    assert (sender.username, sender.language) == (None, None)
    assert sender_of({"update_id": 1, "poll": {"id": "1"}}) is None
    assert sender_of(json.loads(text_message(1, ADA, "x"))) is not None
    assert person(ADA).first_name == "Ada"


def test_the_menu_is_one_that_telegram_takes() -> None:
    for name, meaning in COMMANDS:
        assert name.isidentifier()
        assert name == name.lower()
        assert 3 <= len(meaning) <= 256
