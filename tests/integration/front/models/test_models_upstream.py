"""The provider's side of `/llm/v1`: what it is sent, what is passed on, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from bot.front.models.breaker import CircuitBreaker
from tests.integration.front.models.conftest import (
    DONE,
    HEAD,
    PROVIDER_KEY,
    Bridge,
    MakeBridge,
    Provider,
    chunk,
    pieces,
    sse,
)

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


async def test_the_provider_gets_a_rebuilt_request(bridge: Bridge, provider: Provider) -> None:
    provider.completes("hello")
    asked = {**ASKED, "temperature": 0.5, "models": ["dearer/model"], "plugins": [{"id": "web"}], "user": "someone"}
    async with bridge.http() as client:
        headers = {"Cookie": "session=1", "OpenAI-Organization": "org-1", "X-Forwarded-For": "10.0.0.1"}
        assert (await client.post("/chat/completions", json=asked, headers=headers)).status_code == 200
    assert provider.bodies == [
        {"model": "big-model", "messages": ASKED["messages"], "temperature": 0.5, "stream": False}
    ]
    [sent] = provider.headers
    assert sent["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert sent.keys() == {
        "host",
        "content-type",
        "accept",
        "accept-encoding",
        "user-agent",
        "authorization",
        "content-length",
    }


async def test_a_stream_asks_the_provider_for_usage(bridge: Bridge, provider: Provider) -> None:
    provider.completes("hello")
    async with bridge.http() as client:
        await client.post(
            "/chat/completions", json={**ASKED, "stream": True, "stream_options": {"include_usage": False}}
        )
    assert provider.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_stream_is_passed_on_as_it_comes(bridge: Bridge, provider: Provider) -> None:
    proceed = asyncio.Event()

    async def answer(_request: Request) -> Response:
        async def gated() -> AsyncIterator[bytes]:
            yield chunk("first")
            await proceed.wait()
            yield chunk("second", "stop")
            yield DONE

        return StreamingResponse(gated(), media_type="text/event-stream")

    provider.answer = answer
    async with bridge.openai() as client, asyncio.timeout(10):
        stream = await client.chat.completions.create(**ASKED, stream=True)
        arriving = aiter(stream)
        assert (await anext(arriving)).choices[0].delta.content == "first"
        assert not proceed.is_set()
        proceed.set()
        assert [part.choices[0].delta.content async for part in arriving] == ["second"]


async def test_the_echo_model_streams_through_the_bridge(echo: Bridge) -> None:
    async with echo.openai() as client, asyncio.timeout(10):
        asked: Any = {"model": "default", "messages": [{"role": "user", "content": "count to 50"}]}
        async with await client.chat.completions.create(**asked, stream=True) as stream:
            # The whole answer would take longer than this test may.
            texts = [part.choices[0].delta.content async for part in _first(stream, 3)]
    assert texts == ["", "Watch this message grow while I count:", " 1"]


async def _first(stream: Any, number: int) -> AsyncIterator[Any]:
    async for part in stream:
        yield part
        number -= 1
        if not number:
            return


async def test_bytes_of_a_stream_are_not_changed(bridge: Bridge, provider: Provider) -> None:
    events = [b": keep-alive\r\n\r\n", chunk("héllo ⟦x⟧"), b'event: extra\ndata: {"odd":  1}\n\n', DONE]

    async def answer(_request: Request) -> Response:
        whole = b"".join(events)
        return StreamingResponse(
            pieces([whole[at : at + 7] for at in range(0, len(whole), 7)]), media_type="text/event-stream"
        )

    provider.answer = answer
    async with bridge.http() as client:
        answered = await client.post("/chat/completions", json={**ASKED, "stream": True})
    assert answered.content == b"".join(events)


async def test_a_stream_that_breaks_off_ends_with_an_error(bridge: Bridge, provider: Provider) -> None:
    async def answer(_request: Request) -> Response:
        # Fewer bytes than announced: the connection ends in the middle of the body.
        return StreamingResponse(
            pieces([chunk("first")]), media_type="text/event-stream", headers={"Content-Length": "100000"}
        )

    provider.answer = answer
    async with bridge.openai() as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        arriving = aiter(stream)
        assert (await anext(arriving)).choices[0].delta.content == "first"
        with pytest.raises(openai.APIError, match="provider"):
            await anext(arriving)


@pytest.mark.parametrize(
    ("status", "error", "expected", "message"),
    [
        (
            400,
            {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"},
            400,
            "Too long.",
        ),
        (404, {"message": "No such model."}, 404, "No such model."),
        (
            429,
            {"message": "Slow down, org-AbCdEf123456.", "type": "tokens", "code": "rate_limit_exceeded"},
            429,
            "Slow down, [private].",
        ),
        (401, {"message": f"Incorrect API key provided: {PROVIDER_KEY}."}, 502, "operator"),
        (403, {"message": "Forbidden."}, 502, "operator"),
        (402, {"message": "Insufficient credits."}, 502, "no credit left"),
        (429, {"message": "You exceeded your quota.", "code": "insufficient_quota"}, 502, "no credit left"),
        (500, {"message": f"Boom {PROVIDER_KEY}"}, 500, "Boom [key]"),
        (503, {"message": "Overloaded."}, 503, "is down"),
        (302, {}, 502, "neither an answer nor an error"),
    ],
)
async def test_a_providers_error_is_passed_on_in_shape(
    bridge: Bridge, provider: Provider, status: int, error: dict[str, str], expected: int, message: str
) -> None:
    provider.fails(status, {"error": error}, {"Retry-After": "7", "Location": "http://127.0.0.1:1/"})
    async with bridge.http() as client:
        answer = await client.post("/chat/completions", json={**ASKED, "stream": True})
    told = answer.json()["error"]
    assert answer.status_code == expected
    assert told.keys() == {"message", "type", "param", "code"}
    assert message in told["message"]
    if expected == status and "code" in error:
        assert told["code"] == error["code"]
    if expected in (429, 503):
        assert answer.headers["retry-after"] == "7"


async def test_a_refused_operator_key_is_not_tried_again_and_again(bridge: Bridge, provider: Provider) -> None:
    provider.fails(401, {"error": {"message": "no"}})
    async with bridge.openai(max_retries=5) as client:
        with pytest.raises(openai.InternalServerError, match="operator"):
            await client.chat.completions.create(**ASKED)
    assert len(provider.bodies) == 1


@pytest.mark.parametrize("body", [b"<html>oops</html>", b"[]", b""])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_no_answer_becomes_an_error(
    bridge: Bridge, provider: Provider, body: bytes, stream: bool
) -> None:
    async def answer(_request: Request) -> Response:
        return Response(body, media_type="text/html")

    provider.answer = answer
    async with bridge.http() as client:
        answered = await client.post("/chat/completions", json={**ASKED, "stream": stream})
    assert answered.status_code == 502
    assert answered.json()["error"]["code"] == "provider_failed"


async def test_the_operators_key_is_in_no_answer_and_no_log(
    bridge: Bridge, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen = b""
    with capture_logs() as logs:
        async with bridge.http() as client:
            for status in (400, 401, 403, 404, 429, 500, 503):
                leaky = {"error": {"message": f"key {PROVIDER_KEY}", "code": PROVIDER_KEY, "type": PROVIDER_KEY}}
                provider.fails(status, leaky, {"X-Key": PROVIDER_KEY})
                seen += await _everything(client, stream=False)
                if status in (401, 503):
                    bridge.state.breaker.attempt().succeeded()

            async def whole(_request: Request) -> Response:
                return JSONResponse({**HEAD, "choices": [], "note": PROVIDER_KEY}, headers={"X-Key": PROVIDER_KEY})

            async def streamed(_request: Request) -> Response:
                events = [sse({**HEAD, "choices": [], "note": PROVIDER_KEY}), DONE]
                cut = b"".join(events)
                parts = [cut[:60], cut[60:]]
                return StreamingResponse(pieces(parts), media_type="text/event-stream", headers={"X-K": PROVIDER_KEY})

            provider.answer = whole
            seen += await _everything(client, stream=False)
            provider.answer = streamed
            seen += await _everything(client, stream=True)
    assert b"[key]" in seen
    assert PROVIDER_KEY.encode() not in seen
    assert PROVIDER_KEY not in json.dumps(logs, default=str)
    assert PROVIDER_KEY not in caplog.text
    assert bridge.key not in json.dumps(logs, default=str) + caplog.text


async def _everything(client: Any, stream: bool) -> bytes:
    answer = await client.post("/chat/completions", json={**ASKED, "stream": stream})
    return str(answer.headers.multi_items()).encode() + bytes(answer.content)


async def test_a_provider_that_is_away_is_503(make_bridge: MakeBridge) -> None:
    async with make_bridge(model_url="http://127.0.0.1:9/v1", model="big-model") as bridge, bridge.http() as client:
        answer = await client.post("/chat/completions", json=ASKED)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"] == "model_unavailable"


async def test_the_breaker_opens_and_one_call_tries(make_bridge: MakeBridge, provider: Provider) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=3, first_rest=5.0, clock=clock)
    settings = {"model_url": provider.url, "model_key": PROVIDER_KEY, "model": "big-model"}
    async with make_bridge(breaker, **settings) as bridge, bridge.http() as client:
        provider.fails(503, {})
        for _ in range(3):
            assert not bridge.state.open
            assert (await client.post("/chat/completions", json=ASKED)).status_code == 503
        assert bridge.state.open

        refused = await client.post("/chat/completions", json=ASKED)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert len(provider.bodies) == 3

        clock.time += 5.0
        assert not bridge.state.open
        provider.completes("hello")
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200
        assert not bridge.state.open


async def test_one_instances_bad_requests_do_not_open_the_breaker(bridge: Bridge, provider: Provider) -> None:
    async with bridge.http() as client:
        for status in (400, 403, 404, 413, 429, 500) * 2:
            provider.fails(status, {"error": {"message": "no"}})
            await client.post("/chat/completions", json=ASKED)
    assert not bridge.state.open
