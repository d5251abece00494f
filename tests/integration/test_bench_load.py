"""The sender and the sink of the hot path's bench measure what they claim to."""

from __future__ import annotations

import asyncio
import time

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.bench.load import Load
from bot.bench.sink import Sink
from bot.endpoints import WEBHOOK_PORT
from bot.standins.serving import running

DELAY = 0.05


async def test_every_update_is_sent_once_and_its_answer_timed() -> None:
    got: list[tuple[int, int, str]] = []

    async def webhook(request: Request) -> Response:
        update = await request.json()
        got.append(
            (update["update_id"], update["message"]["from"]["id"], request.headers["X-Telegram-Bot-Api-Secret-Token"])
        )
        await asyncio.sleep(DELAY)
        return Response(status_code=503 if update["update_id"] == 2 else 200)

    async with running(Starlette(routes=[Route("/hook", webhook, methods=["POST"])])) as url:
        load = Load("127.0.0.1", int(url.rpartition(":")[2]), "/hook", "secret")
        sent = await load.run([7, 8], rate=50, seconds=0.2)
        await load.close()
    assert sorted(got) == [(number, 7 + (number - 1) % 2, "secret") for number in range(1, 11)]
    assert sent.refused == 1
    assert sorted(sent.acks) == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert all(seconds >= DELAY for seconds in sent.acks.values())


async def test_the_sink_answers_as_openclaw_does_and_notes_the_first_arrival() -> None:
    sink = Sink()
    url = f"http://127.0.1.250:{WEBHOOK_PORT}/telegram-webhook"
    async with sink.listening(["127.0.1.250"]), httpx.AsyncClient() as http:
        before = time.perf_counter()
        answers = [await http.post(url, json={"update_id": number}) for number in (5, 6, 5)]
        first = sink.arrivals[5]
    assert {answer.headers["x-openclaw-delivery-accepted"] for answer in answers} == {"durable"}
    assert sorted(sink.arrivals) == [5, 6]
    assert before <= first <= sink.arrivals[6]
