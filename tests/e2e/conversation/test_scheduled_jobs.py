"""A sleeper is awake in time for its job; one that was missed while all was down runs once, late, and says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from sqlalchemy import func, select, update

from bot.credentials import GatewayKey, load_key
from bot.provisioner import jobs
from bot.provisioner.gateway import Gateway
from bot.provisioner.jobs import Job
from bot.standins.telegram.client import SimulatedMessage
from bot.store import now
from bot.store.tables import Announcement, ContainerState, Instance, News
from bot.timeline import Stage
from bot.users.plans import PLANS
from tests.e2e.conversation.served import PATIENCE, ServedZaki, until
from tests.e2e.conversation.test_first_conversation import docker, echoes

#: Seconds from making a job to its time: long enough to fall asleep before on a busy machine.
AHEAD = 50.0
#: Seconds for which the missed job is overdue.
MISSED = 10.0


async def test_jobs_run_in_time_from_sleep_and_once_after_downtime(zaki: ServedZaki) -> None:
    katherine = await zaki.people.new_user(first_name="Katherine")
    await zaki.people.say(katherine, "hello from Katherine")
    await zaki.people.wait_for_reply(katherine, timeout=PATIENCE, predicate=echoes("hello from Katherine"))
    instance = await zaki.instance_of(katherine.id)
    assert instance is not None

    async with gateway_of(zaki, instance) as gateway:
        await add(gateway, katherine.id, "launch", now() + AHEAD)
    await fall_asleep(zaki, instance.id)
    assert Stage.ASLEEP in await zaki.stages(katherine.id)
    await zaki.people.wait_for_reply(katherine, timeout=PATIENCE, predicate=says("It is time: launch"))
    shown = json.loads(zaki.command("instance", "show", instance.id, "--json"))
    reasons = [decision["reason"] for decision in shown["decisions"]]
    assert any(reason.startswith("Its job is due at") for reason in reasons)
    assert await told_late(zaki) == 0

    await all_over(zaki, instance)
    zaki.kill()
    await freeze_over_a_job(zaki, instance, katherine.id)
    await zaki.start()
    await zaki.people.wait_for_reply(katherine, timeout=PATIENCE, predicate=says("It is time: landing"))
    await zaki.people.wait_for_reply(katherine, timeout=PATIENCE, predicate=says("landing, due"))
    await all_over(zaki, instance)
    said = [message.text for message in await zaki.people.messages(katherine) if message.text.startswith("It is time")]
    assert said == ["It is time: launch", "It is time: landing"]
    assert await told_late(zaki) == 1


@asynccontextmanager
async def gateway_of(zaki: ServedZaki, instance: Instance) -> AsyncIterator[Gateway]:
    """The instance's gateway as the provisioner calls it."""
    key = GatewayKey(load_key(zaki.state / "keys" / "provisioner.key"))
    async with httpx.AsyncClient(trust_env=False) as http:
        yield Gateway(http, str(instance.address), key.derive(instance.id, instance.credentials_epoch))


async def all_over(zaki: ServedZaki, instance: Instance) -> None:
    """Return once its jobs have run, and their turns have ended."""
    async with gateway_of(zaki, instance) as gateway:

        async def over() -> bool:
            if await jobs.upcoming(gateway, now()):
                return False
            # The gateway answers thirty times a minute.
            await asyncio.sleep(3)
            suspended = (await gateway.suspend("zaki-test")).id
            if suspended is not None:
                await gateway.resume(suspended)
            return suspended is not None

        await until(over, "the end of the jobs")


async def add(gateway: Gateway, telegram_id: int, name: str, due_at: float) -> Job:
    """A job for one time, made as the assistant makes it."""
    moment = datetime.fromtimestamp(due_at, UTC).isoformat(timespec="milliseconds")
    job: dict[str, Any] = {
        "name": name,
        "schedule": {"kind": "at", "at": moment},
        "sessionTarget": "isolated",
        "wakeMode": "now",
        "payload": {"kind": "agentTurn", "message": name},
        "delivery": {"mode": "announce", "channel": "telegram", "to": str(telegram_id)},
    }
    made = await gateway.call("cron.add", job)
    return Job(str(made["id"]), name, due_at)


async def fall_asleep(zaki: ServedZaki, instance_id: str) -> None:
    """The operator's request is refused while a turn is not quite over, and done afterwards."""

    async def asked() -> bool:
        code, said = zaki.run("instance", "sleep", instance_id)
        assert code in (0, 3), said
        return code == 0

    await until(asked, "the sleep")


async def freeze_over_a_job(zaki: ServedZaki, instance: Instance, telegram_id: int) -> None:
    """As if it had fallen asleep, then the machine had been off for ten minutes over the time of a job."""
    async with gateway_of(zaki, instance) as gateway:
        job = await add(gateway, telegram_id, "landing", now() + MISSED)

        suspension_id = (await gateway.suspend("zaki-test")).id
        assert suspension_id is not None
    docker("pause", instance.id)
    missed = Job(job.id, job.name, job.due_at - 600.0)
    columns = jobs.at_rest([missed], now(), PLANS["standard"], tired=False)
    rest = {"container": ContainerState.PAUSED, "ready_at": None, "fenced_at": now(), "suspension_id": suspension_id}
    values = {**columns, **rest, "resting_since": now() - 700.0, "next_look_at": now()}
    async with zaki.database.write() as session:
        await session.execute(update(Instance).where(Instance.id == instance.id).values(**values))

    async def passed() -> bool:
        return now() > job.due_at

    await until(passed, "the job's time")


async def told_late(zaki: ServedZaki) -> int:
    """How many late jobs people were or will be told of."""
    async with zaki.database.read() as session:
        found = select(func.count()).select_from(Announcement).where(Announcement.news == News.LATE_JOB)
        return await session.scalar(found) or 0


def says(text: str) -> Any:
    """Whether a message of the bot contains the text."""

    def look(message: SimulatedMessage) -> bool:
        return message.from_bot and text in message.text

    return look
