"""A front that is killed before it answers leaves instances that make the same call again: nothing is said twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from bot.credentials import FrontKey
from bot.front.botapi import router
from bot.front.outbox import BotCall, Outbox, rows
from bot.front.outbox.repeats import Repeats
from bot.standins.serving import running
from tests.integration.front.botapi.conftest import FAST, Assistant, Eventually, MakeWorld, World

KEY = FrontKey(b"k" * 32)


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


@contextlib.asynccontextmanager
async def served(world: World, assistant: Assistant) -> AsyncIterator[httpx.AsyncClient]:
    """The assistant's way to the outbox of this process."""
    bridge = FastAPI()
    bridge.include_router(router(world.context, world.outbox, world.api))
    async with running(bridge) as url, replace(assistant, url=url).http() as client:
        yield client


def unheard(world: World) -> Path:
    return world.context.settings.state / "run" / "unheard"


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
    notes = Repeats(unheard(world), world.context.key)
    notes.kept(4711, call_of(mine))
    notes.close()
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine))
    assert await texts(world, mine) == ["hello"]


@pytest.mark.parametrize("answered", [True, False])
async def test_a_call_is_made_whose_id_another_call_was_given(world: World, answered: bool) -> None:
    mine = await world.assistant()
    await world.outbox.post(call_of(mine, "before"), noted=world.outbox.heard)
    (before,) = await world.rows()
    notes = Repeats(unheard(world), world.context.key)
    notes.kept(before.id + 1, call_of(mine, "rolled back"))
    notes.close()
    async with restarted(world) as outbox:
        noted = outbox.heard if answered else lambda _row: None
        await outbox.post(call_of(mine, "between"), noted=noted)
        assert [row.id for row in await world.rows()] == [before.id, before.id + 1]
        await outbox.post(call_of(mine, "rolled back"), noted=outbox.heard)
    assert await texts(world, mine) == ["before", "between", "rolled back"]
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine, "between"), noted=outbox.heard)
    # Its own note was not touched: an answer that was not heard is given again.
    assert len(await world.rows()) == (4 if answered else 3)


Request = tuple[str, dict[str, str], dict[str, tuple[str, bytes]]]


def document(mine: Assistant, part: str, content: bytes) -> Request:
    fields = {"chat_id": str(mine.owner.id), "document": f"attach://{part}"}
    return "/sendDocument", fields, {part: ("notes.txt", content)}


def album(mine: Assistant, part: str, content: bytes) -> Request:
    media = [{"type": "document", "media": f"attach://{part}{index}"} for index in range(2)]
    fields = {"chat_id": str(mine.owner.id), "media": json.dumps(media)}
    return "/sendMediaGroup", fields, {f"{part}0": ("a.txt", b"the same"), f"{part}1": ("b.txt", content)}


@pytest.mark.parametrize("request_of", [document, album])
async def test_files_are_told_by_what_they_hold(
    world: World, monkeypatch: pytest.MonkeyPatch, request_of: Callable[[Assistant, str, bytes], Request]
) -> None:
    mine = await world.assistant()

    async def sent(part: str, content: bytes) -> list[int]:
        method, fields, files = request_of(mine, part, content)
        # The process ends before the answer is heard.
        monkeypatch.setattr(world.outbox, "heard", lambda _row: None)
        async with served(world, mine) as client:
            answer = (await client.post(method, data=fields, files=files)).json()
        made = answer["result"] if isinstance(answer["result"], list) else [answer["result"]]
        return [message["message_id"] for message in made]

    first = await sent("x9f3k", b"one")
    async with restarted(world):
        # Clients name the parts anew each time.
        assert await sent("q71zz", b"one") == first
        assert list(world.outbox.spool.folder.iterdir()) == []
    async with restarted(world):
        assert not set(await sent("x9f3k", b"two")) & set(first)
    assert len(await world.rows()) == 2
    assert len(await world.said(mine)) == 2 * len(first)


async def test_a_call_whose_answer_was_an_error_of_ours_was_answered(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    async with make_world(replace(FAST, patience=0.01)) as world:
        mine = await world.assistant()
        await world.stop()

        async def broken(*_: object) -> bool:
            raise OSError

        with monkeypatch.context() as patch:
            patch.setattr(rows, "tell_provisional", broken)
            async with mine.http() as client:
                answer = await client.post("/sendMessage", json={"chat_id": mine.owner.id, "text": "hello"})
        assert answer.status_code == 503
        (row,) = await world.rows()

        async def heard() -> bool:
            return f"- {row.id}" in unheard(world).read_text().splitlines()

        await eventually(heard)


@pytest.mark.parametrize("broken", ["line", "file"])
async def test_notes_that_cannot_be_read_keep_nothing_from_being_said(world: World, broken: str) -> None:
    mine = await world.assistant()
    notes = unheard(world)
    notes.parent.mkdir(exist_ok=True)
    if broken == "file":
        notes.unlink()
        notes.mkdir()
    else:
        notes.write_text("+ x 5 h\n+ 1.0 y h\n- z\n\x00\n")
    async with restarted(world) as outbox:
        await outbox.post(call_of(mine))
    assert await texts(world, mine) == ["hello"]


async def test_a_call_whose_commit_failed_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = await world.assistant()
    committed = world.context.database.write

    @contextlib.asynccontextmanager
    async def failing() -> AsyncIterator[AsyncSession]:
        async with committed() as session:
            yield session
        raise OSError("the answer to the commit did not come")

    monkeypatch.setattr(world.context.database, "write", failing)
    with pytest.raises(OSError, match="did not come"):
        await world.outbox.post(call_of(mine))
    monkeypatch.undo()
    await world.outbox.post(call_of(mine))
    assert await texts(world, mine) == ["hello"]


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], Repeats]:
    """Call it to get the notes as the next process finds them."""

    def next_process() -> Repeats:
        found = Repeats(tmp_path / "run" / "unheard", KEY)
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


def test_a_note_says_nothing_to_who_has_not_the_key(tmp_path: Path) -> None:
    call = BotCall("sendMessage", {"chat_id": 1, "text": "yes"}, 1, "u-aaaaaaaaaa")
    files = [tmp_path / "unheard", tmp_path / "guessed"]
    for file, key in zip(files, (KEY, FrontKey(b"g" * 32)), strict=True):
        Repeats(file, key).kept(7, call)
    noted, guessed = (file.read_text().split()[3] for file in files)
    assert noted != guessed


def test_a_torn_line_costs_that_line_alone(notes: Callable[[], Repeats], tmp_path: Path) -> None:
    call = BotCall("sendMessage", {"chat_id": 1, "text": "hello"}, 1, "u-aaaaaaaaaa")
    notes().kept(7, call)
    with (tmp_path / "run" / "unheard").open("a") as file:
        file.write("+ x 5 h\n+ 17")
    found = notes().take(call)
    assert found is not None
    assert found[1] == 7


def test_the_file_does_not_grow_without_end(notes: Callable[[], Repeats], tmp_path: Path) -> None:
    kept = notes()
    for row in range(12_000):
        call = BotCall("sendMessage", {"chat_id": 1, "text": str(row)}, 1, "u-aaaaaaaaaa")
        kept.kept(row, call)
        if row != 5:
            kept.heard(row)
    file = tmp_path / "run" / "unheard"
    assert file.stat().st_size < 1_200_000
    found = notes().take(BotCall("sendMessage", {"chat_id": 1, "text": "5"}, 1, "u-aaaaaaaaaa"))
    assert found is not None
    assert found[1] == 5


def test_little_is_left_once_every_answer_is_heard(notes: Callable[[], Repeats], tmp_path: Path) -> None:
    kept = notes()
    for row in range(1000):
        kept.kept(row, BotCall("sendMessage", {"chat_id": 1, "text": str(row)}, 1, "u-aaaaaaaaaa"))
    for row in range(1000):
        kept.heard(row)
    assert (tmp_path / "run" / "unheard").read_text() == ""
