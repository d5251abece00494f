"""What of an instance's request reaches the provider, and what it is thought to cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.front.models.errors import ModelError
from bot.front.models.meter import Meter
from bot.front.models.requests import MAX_BODY, MAX_VALUES, parse
from bot.front.models.room import Room

MESSAGES = [{"role": "user", "content": "hello"}]


def parsed(**fields: Any) -> Any:
    return parse(json.dumps({"model": "default", "messages": MESSAGES, **fields}).encode(), "big-model")


def test_what_openclaw_sends_is_passed_on() -> None:
    tools = [{"type": "function", "function": {"name": "ls", "parameters": {}}}]
    asked = parsed(
        stream=True,
        stream_options={"include_usage": True},
        tools=tools,
        tool_choice="auto",
        max_completion_tokens=4096,
        reasoning_effort="low",
    )
    assert json.loads(asked.body) == {
        "model": "big-model",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": tools,
        "tool_choice": "auto",
        "max_completion_tokens": 4096,
        "reasoning_effort": "low",
    }
    assert (asked.stream, asked.wants_usage) == (True, True)


@pytest.mark.parametrize(
    "field", ["models", "route", "provider", "plugins", "service_tier", "store", "user", "n", "audio"]
)
def test_what_could_cost_more_is_left_out(field: str) -> None:
    assert json.loads(parsed(**{field: 1}).body).keys() == {"model", "messages", "stream"}


@pytest.mark.parametrize("model", ["gpt-5", "", None, ["default"], "zaki/default"])
def test_no_other_model_can_be_had(model: object) -> None:
    with pytest.raises(ModelError) as refusal:
        parsed(model=model)
    assert (refusal.value.status, refusal.value.code) == (404, "model_not_found")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_any_bytes_are_a_request_or_an_error_in_shape(raw: bytes) -> None:
    with pytest.raises(ModelError) as refusal:
        parse(raw, "big-model")
    assert refusal.value.body()["error"].keys() == {"message", "type", "param", "code"}


def test_a_picture_counts_as_one_however_large_it_is() -> None:
    def with_picture(size: int) -> int:
        part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}
        estimate: int = parsed(messages=[{"role": "user", "content": [part]}]).prompt_estimate
        return estimate

    assert with_picture(100) == with_picture(1_000_000) > 500


def test_an_estimate_grows_with_the_text() -> None:
    assert parsed(messages=[{"role": "user", "content": "word " * 4000}]).prompt_estimate == pytest.approx(
        5000, rel=0.01
    )


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": "many", "completion_tokens": 1}, {"prompt_tokens": -5, "completion_tokens": 1}, 7],
)
def test_a_count_that_is_none_leaves_the_estimate(usage: object) -> None:
    meter = Meter(prompt_estimate=10)
    meter.see({"choices": [{"delta": {"content": "x" * 40}}], "usage": usage})
    meter.see({"choices": [{"delta": {"tool_calls": [{"function": {"name": "ls", "arguments": "y" * 38}}]}}]})
    assert (meter.tokens.prompt, meter.tokens.completion, meter.tokens.estimated) == (10, 21, True)


def test_odd_chunks_do_no_harm() -> None:
    meter = Meter(prompt_estimate=10)
    for odd in ({"choices": None}, {"choices": [None]}, {"choices": [{"delta": {"content": 7, "tool_calls": [None]}}]}):
        meter.see(odd)
    assert meter.tokens.completion == 0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "data:image/png;base64," + "word " * 40_000},
        {"role": "user", "content": [{"type": "text", "text": "data:image/png;base64," + "word " * 40_000}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/plain," + "x" * 200_000}}]},
        {"role": "user", "content": [{"type": "text", "image_url": {"url": "data:image/png," + "x" * 200_000}}]},
        {"role": "data:" + "x" * 200_000, "content": ""},
    ],
)
def test_only_a_picture_counts_as_one(message: dict[str, Any]) -> None:
    assert parsed(messages=[message]).prompt_estimate >= 50_000


@pytest.mark.parametrize("field", ["tools", "response_format", "prediction"])
def test_all_that_the_model_reads_is_in_the_estimate(field: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "word " * 40_000}}
    assert parsed(**{field: [picture]}).prompt_estimate >= 50_000


def test_a_picture_of_the_largest_size_is_taken() -> None:
    url = "data:image/jpeg;base64," + "A" * (5 * 2**20 * 4 // 3)
    part = {"type": "image_url", "image_url": {"url": url}}
    body = json.dumps({"model": "default", "messages": [{"role": "user", "content": [part]}]}).encode()
    assert len(body) + 500_000 < MAX_BODY
    assert parse(body, "big-model").prompt_estimate < 2_000


def _with_content(content: bytes) -> bytes:
    return b'{"model":"default","messages":[{"role":"user","content":' + content + b"}]}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" + b"[]," * (MAX_VALUES // 2) + b"[]]", "values"),
        (b"[" + b'"",' * MAX_VALUES + b'""]', "values"),
        (b"{" + b'"a":{},' * (MAX_VALUES // 2) + b'"b":{}}', "values"),
        (b'["' + b"," * MAX_VALUES + b'", ' + b'"":' * 2 * MAX_VALUES + b"1]", "values"),
        (b'["' + b'\\",' * MAX_VALUES, "no JSON"),
        (b"[" * 200 + b"]" * 200, "deep"),
    ],
)
def test_values_without_end_are_never_made(content: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if words != "deep":
        monkeypatch.setattr(json, "loads", None)
    with pytest.raises(ModelError, match=words) as refusal:
        parse(_with_content(content), "big-model")
    assert refusal.value.status == 400


def test_what_is_in_a_text_is_no_value() -> None:
    text = json.dumps("1,[2],{" * MAX_VALUES + '\\"').encode()
    assert json.loads(parse(_with_content(text), "m").body)["messages"][0]["content"] == json.loads(text)


def test_requests_have_a_share_of_the_memory_and_give_it_back() -> None:
    room = Room(share=10, everybody=15)
    mine, other = room.hold("mine"), room.hold("other")
    mine.reserve(6)
    with pytest.raises(ModelError) as refusal:
        room.hold("mine").reserve(5)
    assert refusal.value.status == 429
    other.reserve(9)
    with pytest.raises(ModelError) as refusal:
        mine.reserve(1)
    assert refusal.value.status == 503
    other.release()
    other.release()
    mine.reserve(4)
