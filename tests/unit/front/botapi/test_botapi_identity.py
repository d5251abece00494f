"""Who the bot is, while Telegram answers and while it does not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from bot.front.botapi.identity import BotIdentity
from bot.front.outbox import Outbox


class Telegram:
    """Answers `getMe` once it may, or says nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: dict[str, Any] | None = None
        self.may_answer = asyncio.Event()

    async def ask(self, _call: Any, _wait: float) -> dict[str, Any] | None:
        """As the outbox asks."""
        self.asked += 1
        await self.may_answer.wait()
        return self.answer


@pytest.fixture
def telegram() -> Telegram:
    """One that has not answered yet."""
    return Telegram()


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def remembered(state: Path, name: str) -> None:
    (state / "cache").mkdir()
    (state / "cache" / "bot.json").write_text(json.dumps({"id": 1, "first_name": name}))


async def test_what_is_known_is_told_at_once(telegram: Telegram, tmp_path: Path) -> None:
    remembered(tmp_path, "old")
    identity = BotIdentity(cast(Outbox, telegram), tmp_path)
    async with asyncio.timeout(10):
        # Telegram says nothing meanwhile.
        told = await asyncio.gather(*(identity.get() for _ in range(6)))
    assert {me["first_name"] for me in told if me} == {"old"}
    await asyncio.sleep(0)
    assert telegram.asked == 1
    telegram.answer = {"ok": True, "result": {"id": 1, "first_name": "new"}}
    telegram.may_answer.set()
    async with asyncio.timeout(10):
        while (await identity.get() or {})["first_name"] != "new":
            await asyncio.sleep(0)
        while json.loads((tmp_path / "cache" / "bot.json").read_text())["first_name"] != "new":
            await asyncio.sleep(0)
    assert telegram.asked == 1


async def test_who_never_heard_waits_for_one_answer(telegram: Telegram, tmp_path: Path) -> None:
    identity = BotIdentity(cast(Outbox, telegram), tmp_path)
    asking = [asyncio.create_task(identity.get()) for _ in range(3)]
    async with asyncio.timeout(10):
        while not telegram.asked:
            await asyncio.sleep(0)
    telegram.answer = {"ok": True, "result": {"id": 1}}
    telegram.may_answer.set()
    assert await asyncio.gather(*asking) == [{"id": 1}] * 3
    assert telegram.asked == 1


async def test_after_silence_nobody_asks_for_a_while(telegram: Telegram, tmp_path: Path) -> None:
    clock = Clock()
    identity = BotIdentity(cast(Outbox, telegram), tmp_path, clock)
    telegram.may_answer.set()
    assert await identity.get() is None
    clock.now += 29
    assert await identity.get() is None
    assert telegram.asked == 1
    telegram.answer = {"ok": True, "result": {"id": 1}}
    clock.now += 2
    assert await identity.get() == {"id": 1}
    assert telegram.asked == 2
