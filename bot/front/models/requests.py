"""Chat requests of instances: read within limits, checked, and rebuilt for the provider."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from bot.front.models.errors import ModelError, bad_request, too_large
from bot.front.models.room import Held

#: Bytes. A conversation that fills a large context is some MB at most, and the largest picture that OpenClaw sends, of
#: 5 MiB, has 7 MB in base64.
MAX_BODY = 8_000_000
#: Values of a request's JSON: each costs a hundred times its bytes. OpenClaw's have some thousand.
MAX_VALUES = 100_000
#: How deep they may be nested.
_DEEPEST = 100
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


@dataclass
class ChatRequest:
    """A request as the provider gets it."""

    #: JSON; empty once it is on its way.
    body: bytes
    stream: bool
    #: Whether the instance asked for the stream's usage event.
    wants_usage: bool
    #: Our guess at the prompt's tokens, until the provider counts them.
    prompt_estimate: int

    def take_body(self) -> bytes:
        """The body, which is not kept."""
        body, self.body = self.body, b""
        return body


async def read_body(request: Request, held: Held) -> bytes:
    """The body; raises :class:`ModelError` where it is too large, does not arrive, or finds no room."""
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
                held.reserve(len(chunk))
    except (TimeoutError, ClientDisconnect):
        raise ModelError(408, "The request did not arrive in time; send it again.", code="request_timeout") from None
    return bytes(body)


def parse(raw: bytes, upstream_model: str) -> ChatRequest:
    """Check a chat request and rebuild it for the provider's model; raises :class:`ModelError`."""
    _check_values(raw)
    try:
        asked = json.loads(raw, parse_constant=_no_constant)
        if not isinstance(asked, dict):
            raise bad_request("The body must be a JSON object.")
        return _rebuild(asked, upstream_model)
    except (ValueError, RecursionError):
        raise _no_json() from None


#: A JSON text, to its end. It is possessive, or each escape would be kept for another try.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def _check_values(raw: bytes) -> None:
    """Refuse a request with too many values before they are made."""
    if _begun(raw, 0, len(raw)) <= MAX_VALUES:
        return
    # What is inside of texts begins no value, so look again without them. A value has two texts at most, its name and
    # itself.
    values = texts = start = end = 0
    while start >= 0:
        start = raw.find(b'"', end)
        values += _begun(raw, end, start if start >= 0 else len(raw))
        if values > MAX_VALUES or texts > 2 * MAX_VALUES:
            raise bad_request(f"The request has more than {MAX_VALUES:,} values; send less.")
        if start >= 0:
            text = _STRING.match(raw, start)
            if text is None:
                raise _no_json()
            texts, end = texts + 1, text.end()


def _begun(raw: bytes, start: int, end: int) -> int:
    """Values that begin in a part of a JSON text, texts aside: each but the first follows one of these."""
    return sum(raw.count(mark, start, end) for mark in (b",", b"[", b"{"))


def _no_json() -> ModelError:
    return bad_request("The body is no JSON that can be read.")


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
        body=json.dumps(body).encode(),
        stream=stream,
        wants_usage=options.get("include_usage") is True,
        prompt_estimate=tokens_in(_prompt(body)),
    )


def tokens_in(characters: int) -> int:
    """A guess at the tokens of a text of so many characters."""
    return characters // _CHARACTERS_PER_TOKEN + 1


def _prompt(body: Mapping[str, Any]) -> int:
    """Characters of all that the provider gets; a picture counts as one, however many it has."""
    messages = [_without_pictures(message) for message in body["messages"]]
    pictures = sum(count for _, count in messages)
    return _characters({**body, "messages": [message for message, _ in messages]}, 0) + pictures * _PICTURE


def _without_pictures(message: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A message without what its pictures hold, and how many they are."""
    content = message.get("content")
    if not isinstance(content, list):
        return dict(message), 0
    parts = [_without_picture(part) for part in content]
    return {**message, "content": parts}, sum(part is not before for part, before in zip(parts, content, strict=True))


def _without_picture(part: Any) -> Any:
    # Only here: a text elsewhere that looks like a picture's address is read by the model as the text that it is.
    picture = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
    url = picture.get("url") if isinstance(picture, dict) else None
    if not isinstance(picture, dict) or not isinstance(url, str) or not url.startswith("data:image/"):
        return part
    return {**part, "image_url": {**picture, "url": ""}}


def _characters(value: object, depth: int) -> int:
    if depth > _DEEPEST:
        raise bad_request("The request is nested too deeply.")
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _characters(each, depth + 1) for name, each in value.items())
    if isinstance(value, list):
        return sum(_characters(each, depth + 1) for each in value)
    return 1


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
