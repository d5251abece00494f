"""One instance that asks without end takes the registry from nobody."""

from __future__ import annotations

import asyncio

import pytest

from bot.front.skills.watch import EVERY, watch
from bot.standins.registry import Fault
from bot.store.tables import SkillVerdict
from tests.integration.front.skills.conftest import Site

#: One database will do here.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_who_asks_for_ever_more_is_told_to_wait_and_nobody_else_is(site: Site) -> None:
    for number in range(1000):
        answer = await site.get(f"/api/v1/skills/never-{number}")
        if answer.status_code == 429:
            break
        assert answer.status_code == 404
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    other = await site.get("/api/v1/skills/tide-tables", "127.0.0.2", ownerHandle="samples")
    assert other.status_code == 200
    # What is kept is there for the one as well: it costs the registry nothing.
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/api/v1/search", {"q": "weather"}, 200),
        ("/api/v1/trending", {}, 200),
        ("/api/v1/skills/tide-tables", {}, 200),
        ("/api/v1/skills/never-was", {}, 404),
        ("/api/v1/download", {"slug": "tide-tables", "ownerHandle": "samples", "version": "9.9.9"}, 404),
    ],
)
async def test_the_same_question_reaches_the_registry_once(
    site: Site, path: str, params: dict[str, str], status: int
) -> None:
    first = await site.get(path, **params)
    asked = site.registry.requests.total()
    second = await site.get(path, "127.0.0.2", **params)
    assert (first.status_code, second.status_code, second.text) == (status, status, first.text)
    assert asked > 0
    assert site.registry.requests.total() == asked


async def test_verdicts_are_asked_for_as_soon_as_a_pause_ends(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    site.registry.turn("@samples/tide-tables", "1.0.0", "malicious")
    site.registry.faults["*"] = Fault(status=429, retry_after=7)
    waits: asyncio.Queue[float] = asyncio.Queue()
    over = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        waits.put_nowait(seconds)
        await over.acquire()

    task = asyncio.create_task(watch(site.mirror, sleep))
    try:
        assert await waits.get() <= EVERY
        over.release()
        assert await waits.get() == 7
        site.registry.faults.clear()
        site.mirror.ask_again()
        over.release()
        await waits.get()
        assert (await site.row("tide-tables", "1.0.0")).verdict == SkillVerdict.RECALLED
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
