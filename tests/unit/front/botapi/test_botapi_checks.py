"""What may be said, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.front.botapi.checks import Checked, check
from bot.front.botapi.methods import Method, Way, find
from bot.front.botapi.refusals import Refused
from bot.front.botapi.requests import clean, json_value
from bot.front.telegram import Upload

OWNER = 4711
STRANGER = 4712


def method(name: str) -> Method:
    found = find(name)
    assert found is not None
    return found


def checked(name: str, **params: Any) -> Checked:
    return check(method(name), params, [], OWNER)


def part(field: str) -> Upload:
    return Upload(field, Path("/nowhere"), "x", "text/plain", 1)


@pytest.mark.parametrize("name", ["sendMessage", "sendmessage", "SENDMESSAGE"])
def test_methods_are_found_in_any_case_and_called_by_their_name(name: str) -> None:
    assert method(name).name == "sendMessage"


@pytest.mark.parametrize(
    "name", ["setMyName", "sendInvoice", "setChatMenuButton", "banChatMember", "logOut", "close", "", "sendMessage/"]
)
def test_other_methods_are_not_there(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize("chat", [OWNER, str(OWNER)])
def test_the_chat_is_written_anew(chat: Any) -> None:
    assert checked("sendMessage", chat_id=chat, text="x").params == {"chat_id": OWNER, "text": "x"}


@pytest.mark.parametrize(
    "chat",
    [
        *(STRANGER, -OWNER, float(OWNER), True, [], {}, [OWNER, STRANGER], {"id": STRANGER}),
        *(str(STRANGER), f" {OWNER}", f"{OWNER} ", f"+{OWNER}", f"{OWNER}.0", "@owner", "", "0x1267", "٤٧١١"),
    ],
)
def test_every_other_way_to_name_a_chat_is_refused(chat: Any) -> None:
    with pytest.raises(Refused) as refused:
        checked("sendMessage", chat_id=chat, text="x")
    assert (refused.value.code, refused.value.audited) == (403, True)


def test_a_chat_is_needed() -> None:
    with pytest.raises(Refused, match="chat_id is empty"):
        checked("sendMessage", text="x")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["chat_id", "from_chat_id", "user_id", "sender_chat_id", "user", "chat_ids", "peer_id"]),
    st.sampled_from([STRANGER, str(STRANGER), "@them", {"id": STRANGER}, [STRANGER]]),
    st.lists(st.sampled_from(["list", "dict"]), max_size=6),
    st.sampled_from(["entities", "reply_markup", "link_preview_options", "brand_new"]),
    st.booleans(),
)
def test_nobody_else_is_named_at_any_depth(name: str, who: Any, wrapping: list[str], field: str, text: bool) -> None:
    value: Any = {name: who}
    for kind in wrapping:
        value = [value] if kind == "list" else {"inner": value}
    with pytest.raises(Refused):
        checked("sendMessage", chat_id=OWNER, text="x", **{field: json.dumps(value) if text else value})


@given(st.dictionaries(st.text(max_size=12), VALUES, max_size=5))
def test_nonsense_is_either_taken_or_refused(params: dict[str, Any]) -> None:
    try:
        result = check(method("sendMessage"), {**params, "chat_id": OWNER}, [], OWNER)
    except Refused:
        return
    assert result.params["chat_id"] == OWNER


@pytest.mark.parametrize(
    "name", ["sender_business_bot", "new_chat", "receiver_user", "webapp_url", "star_price", "inline_thing", "from"]
)
def test_an_unknown_field_that_could_address_or_cost_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        checked("sendMessage", chat_id=OWNER, text="x", **{name: 1})


@pytest.mark.parametrize("name", ["start_timestamp", "new_sparkle", "has_spoiler", "reply_style"])
def test_an_unknown_harmless_field_is_kept(name: str) -> None:
    assert checked("sendMessage", chat_id=OWNER, text="x", **{name: "y"}).params[name] == "y"


def test_json_as_text_is_read_where_json_is_meant() -> None:
    params = checked("sendMessage", chat_id=OWNER, text="[1]", reply_parameters='{"message_id": "5"}').params
    assert params["text"] == "[1]"
    assert params["reply_parameters"] == {"message_id": 5}


@pytest.mark.parametrize("value", [{"outbox": 3}, 0, -1, 2**60, "x", 1.5, True, None])
def test_a_message_is_named_by_a_number(value: Any) -> None:
    if value is None:
        assert "message_id" not in checked("deleteMessage", chat_id=OWNER, message_id=value).params
        return
    with pytest.raises(Refused):
        checked("deleteMessage", chat_id=OWNER, message_id=value)


def test_buttons_that_an_assistant_needs_are_kept() -> None:
    markup = {
        "inline_keyboard": [
            [{"text": "a", "callback_data": "a", "style": "danger"}, {"text": "b", "url": "https://x.invalid"}],
            [{"text": "c", "copy_text": {"text": "c"}}],
        ]
    }
    assert checked("sendMessage", chat_id=OWNER, text="x", reply_markup=markup).params["reply_markup"] == markup
    keyboard = {"keyboard": [["plain", {"text": "where", "request_location": True}]], "resize_keyboard": True}
    assert checked("sendMessage", chat_id=OWNER, text="x", reply_markup=keyboard).params["reply_markup"] == keyboard


@pytest.mark.parametrize(
    "markup",
    [
        {"inline_keyboard": [[{"text": "x", "callback_data": "zk:go"}]]},
        {"inline_keyboard": [[{"text": "x", "callback_data": 5}]]},
        {"inline_keyboard": {"0": [{"text": "x", "web_app": {}}]}},
        {"inline_keyboard": [{"text": "x"}]},
        {"inline_keyboard": [[7]]},
        {"keyboard": [[{"text": "x", "request_users": {}}]]},
        {"something_new": 1},
        "plain",
        [],
    ],
)
def test_other_keyboards_are_refused(markup: Any) -> None:
    for given_as in (markup, json.dumps(markup)):
        with pytest.raises(Refused):
            checked("sendMessage", chat_id=OWNER, text="x", reply_markup=given_as)


def test_files_are_parts_urls_or_ids() -> None:
    media = [
        {"media": "attach://one"},
        {"media": "https://x.invalid/y"},
        {"media": "AgAC", "thumbnail": "attach://two"},
    ]
    found = check(method("sendMediaGroup"), {"chat_id": OWNER, "media": media}, [part("one"), part("two")], OWNER)
    assert found.file_ids == {"AgAC"}
    assert [file.field for file in found.files] == ["one", "two"]
    for reference in ("/etc/passwd", "file:///etc/passwd", "ftp://x.invalid"):
        assert checked("sendDocument", chat_id=OWNER, document=reference).file_ids == {reference}


@pytest.mark.parametrize(
    ("params", "parts"),
    [
        ({"document": "attach://missing"}, []),
        ({"document": "attach://missing"}, ["document2"]),
        ({}, ["unasked"]),
        ({"caption": "attach://unasked"}, ["unasked"]),
    ],
)
def test_files_that_do_not_fit_are_refused(params: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(Refused):
        check(method("sendDocument"), {"chat_id": OWNER, **params}, [part(name) for name in parts], OWNER)


def test_texts_fit_every_database_and_every_client() -> None:
    assert clean({"a\0": ["\ud800x\0"]}) == {"a": ["?x"]}
    with pytest.raises(Refused):
        json_value("NaN")
    with pytest.raises(Refused):
        json_value("[1e999]")
    with pytest.raises(Refused):
        json_value("[" * 100 + "]" * 100)
    with pytest.raises(Refused):
        json_value("9" * 5000)


def test_sends_are_queued_and_nothing_that_is_queued_is_worth_nothing_later() -> None:
    assert method("sendMessage").way is Way.QUEUED
    assert method("sendChatAction").way is Way.PASSING


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sendMessage", {"text": "x" * 4097}),
        ("sendMessage", {"text": "😀" * 2049}),
        ("editMessageText", {"message_id": 1, "text": "x" * 4097}),
        ("sendMessage", {"text": "<b>" + "x" * 4097 + "</b>", "parse_mode": "HTML"}),
        ("sendMessage", {"text": "*" * 40_000, "parse_mode": "MarkdownV2"}),
        ("sendMessage", {"text": "<b></b>" * 5_000, "parse_mode": "HTML"}),
        ("sendPhoto", {"photo": "https://x.invalid/x.png", "caption": "x" * 1025}),
        ("sendMediaGroup", {"media": [{"type": "photo", "media": "https://x.invalid", "caption": "x" * 1025}]}),
        ("editMessageMedia", {"message_id": 1, "media": {"media": "https://x.invalid", "caption": "x" * 1025}}),
    ],
)
def test_what_is_too_long_is_refused_in_telegrams_words(name: str, params: dict[str, Any]) -> None:
    what = "message caption" if "caption" in str(params) else "message"
    with pytest.raises(Refused) as refused:
        checked(name, chat_id=OWNER, **params)
    assert (refused.value.code, refused.value.description) == (400, f"Bad Request: {what} is too long")


@pytest.mark.parametrize(
    "params",
    [
        {"text": "x" * 4096},
        {"text": "  " + "x" * 4096 + "\n"},
        {"text": "😀" * 2048},
        {"text": "<b>" + "&lt;" * 4096 + "</b>", "parse_mode": "HTML"},
        {"text": "[x](https://x.invalid)" * 1_000, "parse_mode": "MarkdownV2"},
        {"text": 7},
    ],
)
def test_what_may_be_short_enough_is_passed_on(params: dict[str, Any]) -> None:
    assert checked("sendMessage", chat_id=OWNER, **params).params["text"] == params["text"]
