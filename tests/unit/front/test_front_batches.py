"""Shared work: everybody gets their own result, and nobody waits for a batch to fill."""

from __future__ import annotations

import asyncio

import pytest

from bot.front.batches import Batches


async def test_what_comes_meanwhile_is_in_the_next_batch() -> None:
    seen: list[list[int]] = []

    async def double(items: list[int]) -> list[int]:
        seen.append(items)
        await asyncio.sleep(0)
        return [item * 2 for item in items]

    batches = Batches(double, 4)
    assert await batches.add(0) == 0
    assert await asyncio.gather(*(batches.add(item) for item in range(1, 10))) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert seen == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


async def test_a_failure_is_its_batchs_alone() -> None:
    async def refuse_seven(items: list[int]) -> list[int]:
        if 7 in items:
            raise ValueError("seven")
        return items

    batches = Batches(refuse_seven, 2)
    results = await asyncio.gather(*(batches.add(item) for item in (1, 2, 6, 7, 8)), return_exceptions=True)
    assert [str(result) for result in results] == ["1", "2", "seven", "seven", "8"]


async def test_whoever_stopped_waiting_is_left_out() -> None:
    seen: list[list[int]] = []
    free = asyncio.Event()

    async def wait(items: list[int]) -> list[int]:
        seen.append(items)
        await free.wait()
        return items

    batches = Batches(wait, 10)
    first = asyncio.create_task(batches.add(1))
    await asyncio.sleep(0)
    others = [asyncio.create_task(batches.add(item)) for item in (2, 3)]
    await asyncio.sleep(0)
    others[0].cancel()
    await asyncio.sleep(0)
    free.set()
    assert await first == 1
    assert await others[1] == 3
    with pytest.raises(asyncio.CancelledError):
        await others[0]
    assert seen == [[1], [3]]
