"""Pure parts of the outbox: ids, merging, marks, provisional answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Message

from bot.front.outbox.answers import provisional
from bot.front.outbox.calls import map_message_ids, number_of, provisional_id, row_of, with_numbers
from bot.front.outbox.merging import merged_edit
from bot.front.outbox.wording import REPEAT_MARK, marked_as_repeat, without_what_was_refused


@given(st.integers(1, 2**33), st.integers(0, 99))
def test_a_provisional_id_is_never_one_of_telegrams_and_leads_back(row: int, index: int) -> None:
    number = provisional_id(row, index)
    # Telegram's have 31 bits; JavaScript's numbers are exact up to 53.
    assert 2**31 < number < 2**53
    assert row_of(number) == (row, index)


@given(st.integers(1, 2**31 - 1))
def test_telegrams_ids_lead_nowhere(number: int) -> None:
    assert row_of(number) is None


def test_references_to_unsent_messages_become_numbers_everywhere() -> None:
    params = {"message_id": {"outbox": 7}, "reply_parameters": {"message_id": {"outbox": 8}, "quote": "x"}}
    assert with_numbers(params) == {
        "message_id": provisional_id(7),
        "reply_parameters": {"message_id": provisional_id(8), "quote": "x"},
    }
    assert params["message_id"] == {"outbox": 7}


def test_a_lost_message_is_no_longer_named() -> None:
    params = {"text": "x", "message_ids": [1, 2, 3], "reply_parameters": {"message_id": 2}, "reply_to_message_id": 2}
    assert map_message_ids(params, lambda value: None if value == 2 else value) == {"text": "x", "message_ids": [1, 3]}


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("5", 5), ("-5", None), (True, None), ("5.0", None), (5.0, None), ("²", None)]
)
def test_numbers(value: Any, number: int | None) -> None:
    assert number_of(value) == number


def test_an_edit_replaces_what_is_said_and_keeps_where() -> None:
    sent = {
        "chat_id": 1,
        "text": "<b>a</b>",
        "parse_mode": "HTML",
        "reply_markup": {"inline_keyboard": []},
        "reply_parameters": {"message_id": 3},
    }
    edit = {"chat_id": 1, "message_id": 9, "text": "b"}
    assert merged_edit("sendMessage", sent, "editMessageText", edit) == {
        "chat_id": 1,
        "text": "b",
        "reply_parameters": {"message_id": 3},
    }


@pytest.mark.parametrize(
    ("method", "edit", "params"),
    [
        ("sendPhoto", "editMessageText", {"text": "x"}),
        ("sendPhoto", "editMessageMedia", {"media": {}}),
        ("sendMessage", "editMessageText", {"rich_message": {}}),
        ("sendMessage", "editMessageText", {"text": "x", "new_field": 1}),
        ("sendMediaGroup", "editMessageCaption", {"caption": "x"}),
    ],
)
def test_other_edits_go_by_themselves(method: str, edit: str, params: dict[str, Any]) -> None:
    assert merged_edit(method, {"chat_id": 1}, edit, {"chat_id": 1, "message_id": 1, **params}) is None


def test_a_repeat_is_marked_where_there_is_room() -> None:
    assert marked_as_repeat("sendMessage", {"text": "hi"})["text"] == f"hi\n\n{REPEAT_MARK}"
    assert marked_as_repeat("sendPhoto", {"photo": "x"})["caption"] == REPEAT_MARK
    album = marked_as_repeat("sendMediaGroup", {"media": [{"media": "a"}, {"media": "b"}]})
    assert album["media"] == [{"media": "a", "caption": REPEAT_MARK}, {"media": "b"}]
    assert marked_as_repeat("sendSticker", {"sticker": "x"}) == {"sticker": "x"}
    # Of two UTF-16 units each.
    assert marked_as_repeat("sendMessage", {"text": "😀" * 2045})["text"] == "😀" * 2045


def refused(description: str, code: int = 400) -> dict[str, Any]:
    return {"ok": False, "error_code": code, "description": f"Bad Request: {description}"}


def test_markup_that_was_refused_is_taken_away() -> None:
    markup = refused("can't parse entities: unmatched end tag")
    html = {"text": 'a &lt; <a href="x">b</a> <b>c</i> 1 < 2', "parse_mode": "HTML", "chat_id": 1}
    assert without_what_was_refused(html, markup) == {"text": "a < b c 1 < 2", "chat_id": 1}
    assert without_what_was_refused({"caption": "*a", "parse_mode": "MarkdownV2"}, markup) == {"caption": "*a"}
    assert without_what_was_refused({"text": "a"}, markup) is None


def test_a_reply_that_was_refused_is_taken_away() -> None:
    params = {"text": "a", "reply_parameters": {"message_id": 1}}
    assert without_what_was_refused(params, refused("message to be replied not found")) == {"text": "a"}
    assert without_what_was_refused({"text": "a"}, refused("message to be replied not found")) is None


@pytest.mark.parametrize("answer", [refused("message is too long"), refused("quote", 403), {"ok": True}])
def test_other_refusals_change_nothing(answer: dict[str, Any]) -> None:
    params = {"text": "a", "parse_mode": "HTML", "reply_parameters": {"message_id": 1}}
    assert without_what_was_refused(params, answer) is None


@pytest.mark.parametrize("method", ["sendMessage", "sendPhoto", "sendPoll", "forwardMessage", "editMessageText"])
def test_a_provisional_answer_is_a_message_to_a_client(method: str) -> None:
    params = {"text": "x", "message_id": 5, "question": "q", "options": [{"text": "a"}, "b"]}
    answer = provisional(3, method, 77, params)
    message = Message.de_json(answer["result"], None)
    assert message.message_id == (5 if method == "editMessageText" else provisional_id(3))
    assert message.chat_id == 77


def test_a_provisional_album_has_an_id_for_each_item() -> None:
    answer = provisional(3, "sendMediaGroup", 77, {"media": [{"caption": "a"}, {}]})
    assert [item["message_id"] for item in answer["result"]] == [provisional_id(3, 0), provisional_id(3, 1)]


@given(st.sampled_from(["sendMediaGroup", "copyMessages", "sendPoll"]), st.integers() | st.text() | st.none())
def test_a_provisional_answer_bears_nonsense(method: str, value: Any) -> None:
    assert provisional(3, method, 77, {"media": value, "message_ids": value, "options": value})["ok"] is True
