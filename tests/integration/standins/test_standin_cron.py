"""The stand-in's scheduled jobs, and what the provisioner makes of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from bot.credentials import FrontKey
from bot.provisioner import jobs
from bot.provisioner.gateway import Gateway, GatewayError
from bot.provisioner.jobs import Job
from bot.provisioner.openclaw import GatewayConfig, Owner, render_config
from bot.standins.instance import InstanceConfig, StandInInstance
from bot.standins.model import echo_app
from bot.standins.serving import running
from bot.store.tables import Instance
from bot.users.plans import PLANS

OWNER = 42
TOKEN = "gateway-token"
#: Far from the addresses that other tests take, and different in each process.
ADDRESS = str(IPv4Address("127.2.0.0") + os.getpid() % 60_000)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds after which a job counts as late: few."""
    monkeypatch.setattr(jobs, "LATE", 0.2)
    return jobs.LATE


@pytest.fixture
def sent() -> list[tuple[str, str]]:
    """Chat and text of what was said to Telegram."""
    return []


@pytest.fixture
async def config(sent: list[tuple[str, str]]) -> AsyncIterator[InstanceConfig]:
    """What the provisioner would give to an instance, with a Bot API and a model behind it."""

    async def serve(request: Request) -> Response:
        params = await request.json()
        if request.path_params["method"] == "sendMessage":
            sent.append((str(params["chat_id"]), params["text"]))
        return JSONResponse({"ok": True, "result": {"message_id": 1}})

    botapi = Route("/telegram/bot{token}/{method}", serve, methods=["POST"])
    async with running(Starlette(routes=[botapi, Mount("/llm", echo_app())])) as url:
        owner = Owner(telegram_id=OWNER, call_name=None, timezone=None)
        credentials = FrontKey(b"k" * 32).derive("u-abcdefghij", 1)
        yield InstanceConfig.parse(render_config(GatewayConfig(owner, credentials, TOKEN, url)))


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Gateway(http, ADDRESS, TOKEN)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 20 seconds at most."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def add(gateway: Gateway, name: str, **schedule: Any) -> str:
    """A job that says `name`."""
    job = {"name": name, "schedule": schedule, "payload": {"kind": "agentTurn", "message": name}}
    return str((await gateway.call("cron.add", job))["id"])


def at(seconds: float) -> dict[str, Any]:
    """A schedule for one time, so many seconds from now."""
    return {"kind": "at", "at": datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()}


def at_rest(known: list[Job]) -> Instance:
    """The row of an instance that fell asleep with these jobs."""
    return Instance(id="u-abcdefghij", **jobs.at_rest(known, time.time(), PLANS["standard"], tired=False))


async def until_running(gateway: Gateway) -> None:
    """Return once a job runs."""
    async with asyncio.timeout(20):
        while not any("runningAtMs" in job["state"] for job in await listed(gateway)):
            await asyncio.sleep(0.01)


async def until_left(gateway: Gateway, job_id: str) -> None:
    """Return once that job is the only one: one for one time goes when it has run."""
    async with asyncio.timeout(20):
        while [job["id"] for job in await listed(gateway)] != [job_id]:
            await asyncio.sleep(0.01)


async def listed(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.call("cron.list", {"includeDisabled": True}))["jobs"]
    return found


async def test_a_job_runs_once_when_its_time_comes(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]]
) -> None:
    async with StandInInstance(config, ADDRESS).running():
        later = await add(gateway, "much later", **at(3600))
        await add(gateway, "tea", **at(0.3))
        assert [job.name for job in await jobs.upcoming(gateway, time.time())] == ["tea", "much later"]
        await until(lambda: bool(sent))
        assert sent == [(str(OWNER), "It is time: tea")]
        await until_left(gateway, later)
        runs = (await gateway.call("cron.runs", {}))["entries"]
        assert [(run["jobName"], run["status"]) for run in runs] == [("tea", "ok")]


async def test_a_job_comes_again_and_again_until_it_is_removed(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]]
) -> None:
    async with StandInInstance(config, ADDRESS).running():
        tick = await add(gateway, "tick", kind="every", everyMs=200)
        await until(lambda: len(sent) >= 2)
        await gateway.call("cron.remove", {"id": tick})
        assert await listed(gateway) == []


async def test_while_it_is_suspended_nothing_runs_and_then_each_once(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]]
) -> None:
    async with StandInInstance(config, ADDRESS).running():
        await add(gateway, "tea", **at(0.5))
        tick = await add(gateway, "tick", kind="every", everyMs=3_600_000)
        known = await jobs.upcoming(gateway, time.time())
        held = await gateway.suspend("zaki")
        assert held.id is not None
        with pytest.raises(GatewayError, match="suspension"):
            await jobs.upcoming(gateway, time.time())
        await until(lambda: time.time() > known[0].due_at + 0.2)
        assert sent == []
        await gateway.resume(held.id)
        await until(lambda: sent == [(str(OWNER), "It is time: tea")])
        await until_left(gateway, tick)


async def test_a_running_job_makes_it_busy(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]]
) -> None:
    async with StandInInstance(config, ADDRESS).running():
        await add(gateway, "wait 1", **at(0.1))
        await until_running(gateway)
        assert (await gateway.suspend("zaki")).id is None
        await until(lambda: len(sent) == 1)


async def test_what_was_missed_while_it_was_stopped_runs_once_and_is_told(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]], tmp_path: Path, short: float
) -> None:
    async with StandInInstance(config, ADDRESS, tmp_path).running():
        await add(gateway, "tea", **at(0.5))
        await add(gateway, "cake", **at(3600))
        resting = at_rest(await jobs.upcoming(gateway, time.time()))
    assert resting.jobs is not None
    due_at = resting.jobs[0]["due_at"]
    await until(lambda: time.time() > due_at + short)
    assert jobs.owed(resting, time.time())
    for _ in range(2):
        async with StandInInstance(config, ADDRESS, tmp_path, catch_up_after=0.5).running():
            late = await jobs.catch_up(gateway, resting, time.time())
            assert [(job.name, round(job.due_at, 2)) for job in late] == [("tea", round(due_at, 2))]
            await until(lambda: len(sent) == 1)
    assert sent == [(str(OWNER), "It is time: tea")]


async def test_one_that_was_cut_off_runs_again_after_the_start(
    config: InstanceConfig, gateway: Gateway, sent: list[tuple[str, str]], tmp_path: Path, short: float
) -> None:
    async with StandInInstance(config, ADDRESS, tmp_path).running():
        await add(gateway, "wait 1", **at(0.1))
        await until_running(gateway)
        cut_off_at = time.time()
    assert sent == []
    await until(lambda: time.time() > cut_off_at + short)
    crashed = Instance(id="u-abcdefghij", met_generation=1, **jobs.AWAKE)
    assert jobs.owed(crashed, time.time())
    async with StandInInstance(config, ADDRESS, tmp_path, catch_up_after=0.5).running():
        late = await jobs.catch_up(gateway, crashed, time.time())
        assert [job.name for job in late] == ["wait 1"]
        await until(lambda: sent == [(str(OWNER), "I waited 1 seconds.")])
