"""The check of what is served already waits behind nobody."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bot.front.skills.errors import Unavailable
from bot.front.skills.upstream import Upstream


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_the_check_of_what_is_served_waits_behind_no_instance() -> None:
    held, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            asked.release()
            await held.wait()
        return httpx.Response(200, stream=httpx.ByteStream(b'{"items": []}'))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        upstream = Upstream("http://registry", http)
        crowd = [asyncio.create_task(upstream.get("/x")) for _ in range(8)]
        for _ in range(4):
            await asked.acquire()
        assert await upstream.first.post("/verdicts", {}) == {"items": []}
        assert not any(task.done() for task in crowd)
        held.set()
        await asyncio.gather(*crowd)


async def test_after_a_pause_the_check_of_what_is_served_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("bot.front.skills.upstream.time", clock)
    answers = [httpx.Response(429, headers={"Retry-After": "60"}, stream=httpx.ByteStream(b""))]

    async def answer(_request: httpx.Request) -> httpx.Response:
        return answers.pop() if answers else httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        upstream = Upstream("http://registry", http)
        with pytest.raises(Unavailable):
            await upstream.get("/x")
        for one in (upstream, upstream.first):
            with pytest.raises(Unavailable):
                await one.get("/x")
        clock.now += 60.0
        with pytest.raises(Unavailable):
            await upstream.get("/x")
        assert await upstream.first.get("/x") == {}
        clock.now += 2.0
        assert await upstream.get("/x") == {}
