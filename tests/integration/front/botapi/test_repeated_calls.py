"""A front that is killed before it answers leaves instances that make the same call again: nothing is said twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI

from bot.front.botapi import router
from bot.front.outbox import BotCall, Outbox
from bot.front.outbox.repeats import Repeats
from bot.standins.serving import running
from tests.integration.front.botapi.conftest import FAST, Assistant, MakeWorld, World


async def texts(world: World, assistant: Assistant) -> list[str]:
    return [message.text for message in await world.said(assistant)]


def call_of(assistant: Assistant, text: str = "hello") -> BotCall:
    params = {"chat_id": assistant.owner.id, "text": text}
    return BotCall("sendMessage", params, assistant.owner.id, assistant.id)


@contextlib.asynccontextmanager
async def restarted(world: World) -> AsyncIterator[Outbox]:
    """The outbox of the next process."""
    await world.stop()
    world.outbox = Outbox(world.context, world.api, FAST)
    world.start()
    yield world.outbox


async def test_an_answer_that_nobody_heard_is_given_again(world: World) -> None:
    mine = await world.assistant()
    first = await world.outbox.post(call_of(mine))
    async with restarted(world) as outbox:
        again = await outbox.post(call_of(mine), noted=outbox.heard)
        assert again["result"]["message_id"] == first["result"]["message_id"]
        assert await texts(world, mine) == ["hello"]
        # Each call is repeated once; after that the same words are said anew.
        await outbox.post(call_of(mine))
    assert await texts(world, mine) == ["hello", "hello"]


async def test_a_repetition_waits_for_what_is_still_to_be_sent(make_world: MakeWorld) -> None:
    async with make_world(replace(FAST, grace=0.0)) as world:
        mine = await world.assistant()
        await world.stop()
        waiting = asyncio.create_task(world.outbox.post(call_of(mine)))
        async with asyncio.timeout(20):
            while not await world.rows():
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with restarted(world) as outbox:
            answer = await outbox.post(call_of(mine))
        (message,) = await world.said(mine)
        assert answer["result"]["message_id"] == message.id


async def test_a_refusal_that_nobody_heard_is_given_again(world: World) -> None:
    mine = await world.assistant()
    call = BotCall("copyMessage", {"from_chat_id": mine.owner.id, "message_id": 404}, mine.owner.id, mine.id)
    first = await world.outbox.post(call)
    assert first["ok"] is False
    async with restarted(world) as outbox:
        assert await outbox.post(call) == first
    assert len(await world.rows()) == 1


async def test_the_same_words_again_after_an_answer_are_said_again(world: World) -> None:
    mine = await world.assistant()
    async with mine.bot() as bot:
        await bot.send_message(mine.owner.id, "pong")
    async with restarted(world) as outbox:
        bridge = FastAPI()
        bridge.include_router(router(world.context, outbox, world.api))
        async with running(bridge) as url, replace(mine, url=url).bot() as bot:
            await bot.send_message(mine.owner.id, "pong")
    assert await texts(world, mine) == ["pong", "pong"]


async def test_a_repetition_outlives_several_crashes(world: World) -> None:
    mine = await world.assistant()
    await world.outbox.post(call_of(mine))
    async with restarted(world):
        pass
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine))
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine), noted=outbox.heard)
    assert await texts(world, mine) == ["hello"]


async def test_another_instances_words_are_its_own(world: World) -> None:
    mine, theirs = await world.assistant(), await world.assistant()
    await world.outbox.post(call_of(mine))
    async with restarted(world) as outbox:
        await outbox.post(call_of(theirs))
    assert await texts(world, theirs) == ["hello"]


async def test_a_call_that_was_never_committed_is_made(world: World) -> None:
    mine = await world.assistant()
    notes = Repeats(world.context.settings.state / "run" / "unheard")
    notes.kept(4711, call_of(mine))
    notes.close()
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine))
    assert await texts(world, mine) == ["hello"]


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], Repeats]:
    """Call it to get the notes as the next process finds them."""

    def next_process() -> Repeats:
        found = Repeats(tmp_path / "run" / "unheard")
        found.load()
        return found

    return next_process


def test_a_note_holds_no_words_and_ends(
    notes: Callable[[], Repeats], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = BotCall("sendMessage", {"chat_id": 1, "text": "a secret"}, 1, "u-aaaaaaaaaa")
    notes().kept(7, call)
    file = tmp_path / "run" / "unheard"
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    later = notes()
    monkeypatch.setattr("bot.front.outbox.repeats.time.time", lambda: 2e9 + 10_000)
    assert later.take(call) is None


def test_a_torn_line_costs_that_line_alone(notes: Callable[[], Repeats], tmp_path: Path) -> None:
    call = BotCall("sendMessage", {"chat_id": 1, "text": "hello"}, 1, "u-aaaaaaaaaa")
    notes().kept(7, call)
    with (tmp_path / "run" / "unheard").open("a") as file:
        file.write("+ 17")
    assert notes().take(call) == 7


def test_the_file_does_not_grow_without_end(notes: Callable[[], Repeats], tmp_path: Path) -> None:
    kept = notes()
    for row in range(12_000):
        call = BotCall("sendMessage", {"chat_id": 1, "text": str(row)}, 1, "u-aaaaaaaaaa")
        kept.kept(row, call)
        if row != 5:
            kept.heard(row)
    assert (tmp_path / "run" / "unheard").stat().st_size < 1_200_000
    assert notes().take(BotCall("sendMessage", {"chat_id": 1, "text": "5"}, 1, "u-aaaaaaaaaa")) == 5
