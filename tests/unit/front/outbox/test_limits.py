"""The pacer keeps Telegram's limits and is fair, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.front.outbox.limits import Limits, Pacer, Rate


class FakeTime:
    """A clock that jumps to the next sleeper once everybody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, event))
        await event.wait()

    async def run(self, *work: asyncio.Task[None]) -> None:
        """Let time pass until the work is done."""
        while not all(task.done() for task in work):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers and not all(task.done() for task in work):
                at, _, event = heapq.heappop(self._sleepers)
                self.now = max(self.now, at)
                event.set()
        await asyncio.gather(*work)


OVERALL = Rate(30, 1)
CHAT = Rate(5, 5)


def pacer(time: FakeTime, overall: Rate = OVERALL, chat: Rate = CHAT) -> Pacer:
    return Pacer(Limits(overall, chat), time, time.sleep)


async def many(pacer: Pacer, time: FakeTime, chat: int, calls: int, log: list[tuple[float, int]]) -> None:
    for _ in range(calls):
        await pacer.acquire(chat)
        log.append((time.now, chat))


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(1 for other in times if begin <= other < begin + seconds) for begin in times)


async def test_a_chat_gets_a_burst_and_then_one_a_second() -> None:
    time = FakeTime()
    log: list[tuple[float, int]] = []
    await time.run(asyncio.create_task(many(pacer(time), time, 1, 15, log)))
    times = [at for at, _ in log]
    assert times[4] == 0
    assert most_within(times, 5) == 5
    assert times[-1] == pytest.approx(10)


@given(st.lists(st.integers(1, 25), min_size=1, max_size=12), st.integers(1, 6), st.integers(1, 4))
def test_no_limit_is_ever_exceeded(calls: list[int], overall: int, chat: int) -> None:
    async def check() -> None:
        time = FakeTime()
        limited = pacer(time, Rate(overall, 1.0), Rate(chat, 2.0))
        log: list[tuple[float, int]] = []
        await time.run(
            *(asyncio.create_task(many(limited, time, number, count, log)) for number, count in enumerate(calls))
        )
        assert len(log) == sum(calls)
        assert most_within([at for at, _ in log], 1.0) <= overall
        for number in range(len(calls)):
            assert most_within([at for at, which in log if which == number], 2.0) <= chat

    asyncio.run(check())


async def test_chats_take_turns() -> None:
    time = FakeTime()
    limited = pacer(time, Rate(2, 1), Rate(1000, 1))
    log: list[tuple[float, int]] = []
    noisy = asyncio.create_task(many(limited, time, 1, 200, log))
    await asyncio.sleep(0)
    quiet = [asyncio.create_task(many(limited, time, chat, 3, log)) for chat in (2, 3)]
    await time.run(*quiet)
    turns = Counter(chat for _, chat in log)
    assert turns[2] == turns[3] == 3
    assert turns[1] <= 6
    noisy.cancel()


async def test_a_held_chat_holds_no_other() -> None:
    time = FakeTime()
    limited = pacer(time)
    limited.trouble(1, 30)
    log: list[tuple[float, int]] = []
    await time.run(*(asyncio.create_task(many(limited, time, chat, 1, log)) for chat in (1, 2)))
    assert log == [(0, 2), (30, 1)]


async def test_several_chats_in_trouble_hold_everybody_until_a_success() -> None:
    time = FakeTime()
    limited = pacer(time)
    for chat in (1, 2, 3):
        limited.trouble(chat, 10, unanswered=True)
    log: list[tuple[float, int]] = []
    await time.run(asyncio.create_task(many(limited, time, 4, 1, log)))
    assert log == [(10, 4)]
    limited.success()
    limited.trouble(5, 100)
    await time.run(asyncio.create_task(many(limited, time, 6, 1, log)))
    assert log[-1] == (10, 6)


async def test_flood_waits_of_several_chats_are_their_own() -> None:
    time = FakeTime()
    limited = pacer(time)
    for chat in (1, 2, 3):
        limited.trouble(chat, 600)
    log: list[tuple[float, int]] = []
    await time.run(*(asyncio.create_task(many(limited, time, chat, 1, log)) for chat in (1, 4)))
    (first, chat), (last, held) = log
    assert (chat, held, last) == (4, 1, 600)
    assert first <= 3


async def test_one_call_tries_whether_the_trouble_is_over() -> None:
    time = FakeTime()
    limited = pacer(time)
    for chat in (1, 2, 3):
        limited.trouble(chat, 10, unanswered=True)
    log: list[tuple[float, int]] = []
    waiting = [asyncio.create_task(many(limited, time, chat, 1, log)) for chat in (4, 5, 6)]
    await time.run(waiting[0])
    assert [chat for _, chat in log] == [4]
    limited.success()
    await time.run(*waiting[1:])
    assert log[1][0] == log[2][0]


async def test_what_telegram_does_not_count_in_the_chat_has_a_limit_of_its_own() -> None:
    time = FakeTime()
    limited = Pacer(Limits(Rate(1000, 1), CHAT, silent=Rate(3, 10)), time, time.sleep)
    for _ in range(3):
        await limited.acquire(1, counted=False)
    assert time.now == 0
    await limited.acquire(1)
    await limited.acquire(2, counted=False)
    assert time.now == 0
    await time.run(asyncio.create_task(limited.acquire(1, counted=False)))
    assert time.now == 10


async def test_what_is_not_counted_in_the_chat_waits_only_for_its_troubles() -> None:
    time = FakeTime()
    limited = pacer(time, chat=Rate(1, 100))
    await limited.acquire(1)
    await limited.acquire(1, counted=False)
    assert time.now == 0
    limited.trouble(1, 7)
    await time.run(asyncio.create_task(limited.acquire(1, counted=False)))
    assert time.now == 7


async def test_what_passes_leaves_room_for_a_message() -> None:
    time = FakeTime()
    limited = pacer(time, chat=Rate(3, 100))
    assert [limited.take_spare(1) for _ in range(4)] == [True, True, False, False]
    await limited.acquire(1)
    assert time.now == 0
    limited = pacer(time, overall=Rate(2, 100))
    assert [limited.take_spare(chat, counted=False) for chat in (1, 2)] == [True, False]


async def test_nobody_has_all_of_what_passes() -> None:
    time = FakeTime()
    limited = pacer(time, overall=Rate(1000, 100))
    assert sum(limited.take_spare(1, counted=False) for _ in range(100)) == Limits().passing.calls
    assert limited.take_spare(2, counted=False)
