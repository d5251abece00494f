"""What a call costs is written down, on both databases, whatever happens to the call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import select, update
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bot.front.models.requests import ChatRequest, parse
from bot.front.models.room import Room
from bot.store import Database
from bot.store.tables import AuditEntry, OutboxMessage, Usage, UsageDay
from tests.integration.front.models.conftest import (
    DONE,
    INSTANCE,
    OWNER,
    PROVIDER_KEY,
    Bridge,
    MakeBridge,
    Provider,
    chunk,
    pieces,
)

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, 10 seconds at most."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)


async def settled(database: Database, calls: int = 1) -> list[Usage]:
    """The account of the calls, once all have ended."""
    found: list[Usage] = []

    async def all_ended() -> bool:
        async with database.read() as session:
            found[:] = (await session.scalars(select(Usage).order_by(Usage.id))).all()
        return len(found) == calls and all(usage.http_status is not None for usage in found)

    await until(all_ended)
    return found


async def the_day(database: Database) -> UsageDay:
    async with database.read() as session:
        return (await session.scalars(select(UsageDay).where(UsageDay.instance_id == INSTANCE))).one()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_providers_count_is_recorded(
    bridge: Bridge, provider: Provider, database: Database, stream: bool
) -> None:
    provider.completes("hello", prompt=1200, completion=34)
    async with bridge.http() as client:
        assert (await client.post("/chat/completions", json={**ASKED, "stream": stream})).status_code == 200
        [first] = await settled(database)
        assert (await client.post("/chat/completions", json={**ASKED, "stream": stream})).status_code == 200
        await settled(database, calls=2)
    assert (first.instance_id, first.model, first.http_status) == (INSTANCE, "big-model", 200)
    assert (first.prompt_tokens, first.completion_tokens, first.estimated) == (1200, 34, False)
    assert first.first_byte is not None
    assert first.duration >= first.first_byte > 0
    day = await the_day(database)
    assert (day.tokens, day.requests) == (2 * 1234, 2)


async def test_a_stream_that_is_not_read_to_its_end_is_estimated(
    bridge: Bridge, provider: Provider, database: Database
) -> None:
    cancelled = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield chunk("x" * 400)
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def answer(_request: Request) -> Response:
        return StreamingResponse(endless(), media_type="text/event-stream")

    provider.answer = answer
    async with (
        bridge.http() as client,
        client.stream("POST", "/chat/completions", json={**ASKED, "stream": True}) as got,
    ):
        async for _ in got.aiter_raw():
            break
    async with asyncio.timeout(10):
        await cancelled.wait()
    [usage] = await settled(database)
    assert usage.http_status == 499
    assert usage.estimated
    assert usage.prompt_tokens > 0
    assert 50 < usage.completion_tokens < 200
    assert (await the_day(database)).tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_up_before_the_answer_cancels_the_call(
    bridge: Bridge, provider: Provider, database: Database, stream: bool
) -> None:
    asked = asyncio.Event()
    gone = asyncio.Event()

    async def answer(request: Request) -> Response:
        asked.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone.set()
        return Response()

    provider.answer = answer
    async with bridge.http() as client:
        call = asyncio.create_task(client.post("/chat/completions", json={**ASKED, "stream": stream}))
        async with asyncio.timeout(10):
            await asked.wait()
            call.cancel()
            await gone.wait()
    [usage] = await settled(database)
    assert (usage.http_status, usage.estimated, usage.completion_tokens) == (499, True, 0)


async def test_a_call_that_a_crash_cuts_off_is_in_the_account(
    bridge: Bridge, provider: Provider, database: Database
) -> None:
    seen: list[Usage] = []

    async def answer(_request: Request) -> Response:
        # What is in the database while the provider works is what a killed process leaves behind.
        async with database.read() as session:
            seen.extend((await session.scalars(select(Usage))).all())
        seen_day.append(await the_day(database))
        return Response(status_code=500)

    seen_day: list[UsageDay] = []
    provider.answer = answer
    async with bridge.http() as client:
        await client.post("/chat/completions", json=ASKED)
    assert [(usage.http_status, usage.estimated) for usage in seen] == [(None, True)]
    assert seen_day[0].tokens == seen[0].prompt_tokens > 0


async def test_a_call_that_the_provider_refuses_costs_nothing(
    bridge: Bridge, provider: Provider, database: Database
) -> None:
    provider.fails(
        400, {"error": {"message": "Too long.", "type": "invalid_request_error", "param": None, "code": "x"}}
    )
    async with bridge.http() as client:
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 400
    [usage] = await settled(database)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.http_status) == (0, 0, 400)
    day = await the_day(database)
    assert (day.tokens, day.requests) == (0, 1)


async def test_the_daily_cap(make_bridge: MakeBridge, provider: Provider, database: Database) -> None:
    provider.completes("hello", prompt=90, completion=20)
    settings = {"model_url": provider.url, "model_key": PROVIDER_KEY, "model": "big-model", "daily_tokens": 100}
    async with make_bridge(**settings) as bridge, bridge.openai(max_retries=3) as client:
        await client.chat.completions.create(**ASKED)
        await settled(database)
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as refusal:
                await client.chat.completions.create(**ASKED)
    assert refusal.value.code == "insufficient_quota"
    assert "00:00 UTC" in refusal.value.message
    assert len(provider.bodies) == 1
    async with database.read() as session:
        told = (await session.scalars(select(OutboxMessage))).all()
        audited = (await session.scalars(select(AuditEntry))).all()
    assert [(message.method, message.chat_id, message.instance_id) for message in told] == [
        ("sendMessage", OWNER, None)
    ]
    assert "today's tokens" in told[0].params["text"]
    assert [(entry.instance_id, entry.action) for entry in audited] == [(INSTANCE, "tokens_spent")]


async def test_a_new_day_has_new_tokens(make_bridge: MakeBridge, provider: Provider, database: Database) -> None:
    provider.completes("hello", prompt=90, completion=20)
    settings = {"model_url": provider.url, "model_key": PROVIDER_KEY, "model": "big-model", "daily_tokens": 100}
    async with make_bridge(**settings) as bridge, bridge.http() as client:
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200
        await settled(database)
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 429
        async with database.write() as session:
            await session.execute(update(UsageDay).values(day="2001-01-01"))
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200


async def test_calls_at_the_same_time_are_all_counted(bridge: Bridge, provider: Provider, database: Database) -> None:
    provider.completes("hello", prompt=10, completion=1)
    async with bridge.http() as client:
        for _ in range(5):
            answers = await asyncio.gather(*(client.post("/chat/completions", json=ASKED) for _ in range(8)))
            assert {answer.status_code for answer in answers} <= {200, 429}
            assert any(answer.status_code == 200 for answer in answers)
    await settled(database, calls=len(provider.bodies))
    day = await the_day(database)
    assert (day.tokens, day.requests) == (11 * len(provider.bodies), len(provider.bodies))


async def test_an_instance_has_a_bound_on_calls_under_way(
    bridge: Bridge, provider: Provider, database: Database
) -> None:
    release = asyncio.Event()
    provider.completes("hello")
    completes = provider.answer
    assert completes is not None

    async def answer(request: Request) -> Response:
        await release.wait()
        return await completes(request)

    provider.answer = answer
    async with bridge.http() as client:
        running = [asyncio.create_task(client.post("/chat/completions", json=ASKED)) for _ in range(8)]

        async def all_running() -> bool:
            return len(provider.bodies) == 8

        await until(all_running)
        refused = await client.post("/chat/completions", json=ASKED)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        release.set()
        answers: list[httpx.Response] = await asyncio.gather(*running)
        assert {answer.status_code for answer in answers} == {200}
        await settled(database, calls=8)
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200


async def test_a_spent_day_is_told_before_the_request_is_read(echo: Bridge, database: Database) -> None:
    async with echo.http() as client:
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200
    await settled(database)
    async with database.write() as session:
        await session.execute(update(UsageDay).values(tokens=echo.context.settings.daily_tokens))
    host, _, port = echo.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    # The body never comes.
    writer.write(
        f"POST /llm/v1/chat/completions HTTP/1.1\r\nHost: zaki\r\nAuthorization: Bearer {echo.key}\r\n"
        "Content-Length: 1000\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        assert b" 429 " in await reader.readline()
        assert b"insufficient_quota" in await reader.readuntil(b"}}")
    writer.close()
    await writer.wait_closed()


async def test_requests_are_read_beside_the_event_loop_and_not_kept(
    bridge: Bridge, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ChatRequest] = []
    threads: list[int] = []

    def noted(raw: bytes, model: str) -> ChatRequest:
        threads.append(threading.get_ident())
        asked.append(parse(raw, model))
        return asked[-1]

    monkeypatch.setattr("bot.front.models.state.parse", noted)
    held: list[int] = []

    async def answer(_request: Request) -> Response:
        held.append(bridge.state.room._used[INSTANCE])
        return StreamingResponse(pieces([chunk("hello", "stop"), DONE]), media_type="text/event-stream")

    provider.answer = answer
    async with bridge.openai() as client:
        stream = await client.chat.completions.create(**ASKED, stream=True)
        async for _ in stream:
            # While the answer comes, nothing of the request is held any more.
            assert asked[0].body == b""
            assert bridge.state.room._used[INSTANCE] == 0
    assert held[0] > 0
    assert threading.get_ident() not in threads
    assert provider.bodies[0]["messages"] == ASKED["messages"]
    assert "content-length" in provider.headers[0]


async def test_more_than_an_instances_share_is_refused(
    bridge: Bridge, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.completes("hello")
    monkeypatch.setattr(bridge.state, "room", Room(share=10))
    async with bridge.http() as client:
        answer = await client.post("/chat/completions", json=ASKED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert bridge.state.room._used.total() == 0
        monkeypatch.setattr(bridge.state, "room", Room())
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 200
        assert bridge.state.room._used.total() == 0
