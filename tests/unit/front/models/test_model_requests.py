"""What of an instance's request reaches the provider, and what it is thought to cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.front.models.errors import ModelError
from bot.front.models.meter import Meter
from bot.front.models.requests import parse

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
    assert asked.body == {
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
    assert parsed(**{field: 1}).body.keys() == {"model", "messages", "stream"}


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
