"""The stream of events that the chat page lives on."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from telegram import Bot


async def read(sim: Any, last_id: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Events of a stream, each with its `id` and `event`."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=20) as http,
        http.stream("GET", "/sim/events", headers=headers) as stream,
    ):
        event: dict[str, Any] = {}
        async for line in stream.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                event |= json.loads(value)
            elif name in {"id", "event"}:
                event[name] = value
            elif not line and event:
                yield event
                event = {}


async def first(stream: AsyncIterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    async for event in stream:
        if event["event"] == kind:
            return event
    raise AssertionError(f"The stream ended without {kind}.")


async def test_a_watcher_goes_on_where_it_was(sim: Any, bot: Bot) -> None:
    position = sim.simulator.events.position
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    sent = await bot.send_message(person.id, "…")
    await sent.edit_text("Hello")
    await bot.send_chat_action(person.id, "typing")
    stream = read(sim, position)
    assert (await first(stream, "message"))["message"]["text"] == "hello"
    latest = await first(stream, "edited")
    assert latest["message"]["text"] == "Hello"
    await stream.aclose()  # type: ignore[attr-defined]
    resumed = read(sim, latest["id"])
    assert (await first(resumed, "action"))["action"] == "typing"
    await resumed.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_of_an_earlier_run_is_told_to_start_again(sim: Any) -> None:
    stream = read(sim, "0badcafe-17")
    assert (await first(stream, "resync"))["event"] == "resync"
    await stream.aclose()  # type: ignore[attr-defined]


async def test_closing_the_simulator_ends_the_stream(sim: Any) -> None:
    stream = read(sim, sim.simulator.events.position)
    await sim.client.new_user()
    await first(stream, "person")
    await sim.simulator.close()
    assert [event async for event in stream] == []
