"""Chat completions in OpenAI's shapes, whole and as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from bot.standins.model.envelope import read
from bot.standins.model.skills import Reply, reply_to


@dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body may still be under way."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]


def complete(raw: bytes) -> Answer:
    """Answer `POST /v1/chat/completions`."""
    try:
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise ValueError("The body must be a JSON object.")
        reply = reply_to(read(body))
    except (ValueError, RecursionError) as error:
        return failed(400, str(error))
    if reply.failure is not None:
        return failed(reply.failure.status, reply.failure.message)
    if body.get("stream"):
        return Answer(200, "text/event-stream", _stream(body, reply))
    return Answer(200, "application/json", _whole(body, reply))


def listed() -> Answer:
    """Answer `GET /v1/models`."""
    model = {"id": "echo", "object": "model", "created": 1767225600, "owned_by": "zaki"}
    return Answer(200, "application/json", _once({"object": "list", "data": [model]}))


def failed(status: int, message: str) -> Answer:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    return Answer(status, "application/json", _once({"error": error}))


async def _once(body: Mapping[str, Any]) -> AsyncIterator[bytes]:
    yield json.dumps(body).encode()


async def _whole(body: Mapping[str, Any], reply: Reply) -> AsyncIterator[bytes]:
    await asyncio.sleep(reply.wait + reply.pause * max(len(reply.pieces) - 1, 0))
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool is not None:
        message["tool_calls"] = [_tool_call(reply)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    head = _head(body, "chat.completion")
    yield json.dumps({**head, "choices": [choice], "usage": _usage(body, reply)}).encode()


async def _stream(body: Mapping[str, Any], reply: Reply) -> AsyncIterator[bytes]:
    head = _head(body, "chat.completion.chunk")
    options = body.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True

    def event(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

    yield event({"role": "assistant", "content": ""})
    await asyncio.sleep(reply.wait)
    for number, piece in enumerate(reply.pieces):
        if number:
            await asyncio.sleep(reply.pause)
        yield event({"content": piece})
    if reply.tool is not None:
        yield event({"tool_calls": [{"index": 0, **_tool_call(reply)}]})
    yield event({}, _finish(reply))
    if wants_usage:
        yield _event({**head, "choices": [], "usage": _usage(body, reply)})
    yield b"data: [DONE]\n\n"


def _head(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    identifier = "chatcmpl-" + secrets.token_hex(12)
    return {"id": identifier, "object": kind, "created": int(time.time()), "model": str(body.get("model") or "echo")}


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _finish(reply: Reply) -> str:
    return "stop" if reply.tool is None else "tool_calls"


def _tool_call(reply: Reply) -> dict[str, Any]:
    assert reply.tool is not None  # noqa: S101
    function = {"name": reply.tool.name, "arguments": reply.tool.arguments}
    return {"id": "call_" + secrets.token_hex(12), "type": "function", "function": function}


def _usage(body: Mapping[str, Any], reply: Reply) -> dict[str, int]:
    """About four characters are a token, as with real models."""
    prompt = sum(len(json.dumps(body.get(part))) for part in ("messages", "tools") if body.get(part)) // 4 + 1
    completion = (len(reply.text) + (len(reply.tool.arguments) if reply.tool else 0)) // 4 + 1
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
