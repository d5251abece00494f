"""Chat requests of instances: read within limits, checked, and rebuilt for the provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from bot.front.models.errors import ModelError, bad_request, too_large

#: Bytes. A conversation that fills a large context is some hundred kB; pictures make it more.
MAX_BODY = 10_000_000
#: Seconds for the whole body to arrive.
_BODY_TIMEOUT = 30.0
#: The name under which instances know the model.
MODEL = "default"

#: What reaches the provider. Anything else is left out: a provider's own fields can choose other models or cost more.
_FIELDS = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "reasoning_effort",
        "verbosity",
        "prediction",
        "prompt_cache_key",
    }
)
_CHARACTERS_PER_TOKEN = 4
#: What a picture counts for in an estimate, in characters, however many bytes it has.
_PICTURE = 4_000


@dataclass(frozen=True)
class ChatRequest:
    """A request as the provider gets it."""

    body: Mapping[str, Any]
    stream: bool
    #: Whether the instance asked for the stream's usage event.
    wants_usage: bool
    #: Our guess at the prompt's tokens, until the provider counts them.
    prompt_estimate: int


async def read_body(request: Request) -> bytes:
    """The body; raises :class:`ModelError` where it is too large or does not arrive."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY:
        raise too_large(MAX_BODY)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_large(MAX_BODY)
    except (TimeoutError, ClientDisconnect):
        raise ModelError(408, "The request did not arrive in time; send it again.", code="request_timeout") from None
    return bytes(body)


def parse(raw: bytes, upstream_model: str) -> ChatRequest:
    """Check a chat request and rebuild it for the provider's model; raises :class:`ModelError`."""
    try:
        asked = json.loads(raw, parse_constant=_no_constant)
        if not isinstance(asked, dict):
            raise bad_request("The body must be a JSON object.")
        return _rebuild(asked, upstream_model)
    except (ValueError, RecursionError):
        raise bad_request("The body is no JSON that can be read.") from None


def _rebuild(asked: Mapping[str, Any], upstream_model: str) -> ChatRequest:
    if asked.get("model") != MODEL:
        raise ModelError(
            404, f"There is one model here, called `{MODEL}`; ask for that.", code="model_not_found", param="model"
        )
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise bad_request("`messages` must be a list of at least one message.", "messages")
    if asked.get("n") not in (None, 1):
        raise bad_request("`n` must be 1: one answer is served for a request.", "n")
    stream = asked.get("stream") or False
    if not isinstance(stream, bool):
        raise bad_request("`stream` must be true or false.", "stream")
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict):
        raise bad_request("`stream_options` must be an object.", "stream_options")
    body = {name: value for name, value in asked.items() if name in _FIELDS}
    body |= {"model": upstream_model, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return ChatRequest(
        body=body,
        stream=stream,
        wants_usage=options.get("include_usage") is True,
        prompt_estimate=tokens_in(_characters([messages, asked.get("tools")])),
    )


def tokens_in(characters: int) -> int:
    """A guess at the tokens of a text of so many characters."""
    return characters // _CHARACTERS_PER_TOKEN + 1


def _characters(value: object) -> int:
    if isinstance(value, str):
        return _PICTURE if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        return sum(len(name) + _characters(each) for name, each in value.items())
    if isinstance(value, list):
        return sum(_characters(each) for each in value)
    return 1


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
