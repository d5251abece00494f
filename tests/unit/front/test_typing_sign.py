"""The sign that somebody is there: at once, and for each person on their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from bot.front.outbox import BotCall, Outbox
from bot.front.typing_sign import TypingSign

ADA, BEN = 4711, 4712


class Telegram:
    """Takes signs, and answers those to one chat only when it is told to."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self.slow: int | None = None
        self.answers = asyncio.Event()

    async def pass_by(self, call: BotCall) -> dict[str, Any]:
        """Note the chat."""
        self.shown.append(call.chat_id)
        if call.chat_id == self.slow:
            await self.answers.wait()
        return {"ok": True, "result": True}


@pytest.fixture
async def telegram() -> Telegram:
    """One that answers everybody."""
    return Telegram()


@pytest.fixture
async def sign(telegram: Telegram) -> AsyncIterator[TypingSign]:
    """One that runs."""
    sign = TypingSign(cast(Outbox, telegram))
    task = asyncio.create_task(sign.run())
    yield sign
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _until(telegram: Telegram, shown: list[int]) -> None:
    async with asyncio.timeout(15):
        while telegram.shown != shown:
            await asyncio.sleep(0.01)


async def test_whoever_comes_is_shown_it_at_once_and_not_twice(telegram: Telegram, sign: TypingSign) -> None:
    sign.show(ADA)
    sign.show(ADA)
    await _until(telegram, [ADA])
    sign.show(BEN)
    await _until(telegram, [ADA, BEN])
    sign.hide(ADA)
    sign.show(ADA)
    await _until(telegram, [ADA, BEN, ADA])


async def test_a_slow_answer_holds_up_nobody_else(
    telegram: Telegram, sign: TypingSign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.front.typing_sign._EVERY", 0.05)
    telegram.slow = ADA
    sign.show(ADA)
    await _until(telegram, [ADA])
    sign.show(BEN)
    async with asyncio.timeout(15):
        while telegram.shown.count(BEN) < 3:
            await asyncio.sleep(0.01)
    # Nor are signs heaped up that nobody answers.
    assert telegram.shown.count(ADA) == 1
    telegram.answers.set()
    async with asyncio.timeout(15):
        while telegram.shown.count(ADA) < 2:
            await asyncio.sleep(0.01)
