"""People are told of their late jobs once, and an instance does not rest before a job that is near."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import select

from bot.credentials import ArchiveKey, FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner import jobs
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Action, Decision
from bot.provisioner.jobs import Job
from bot.provisioner.resting import Resting
from bot.provisioner.sleep import WakeAdmission
from bot.provisioner.sleep.freezer import Freezer
from bot.provisioner.stacks import StackManager
from bot.provisioner.waking import Waking
from bot.provisioner.work import Refused, Work
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import Announcement, ContainerState, Instance, News, User, Wanted, Wish
from bot.users.plans import PLANS

ID = "u-aaaaaaaaaa"
PLAN = PLANS["standard"]
IDLE = Decision(Action.SLEEP, "It has been idle.")
TIRED = Decision(Action.SLEEP, "Its person has been silent for long, however busy it is.", force=True)


@dataclass
class Machine:
    """A gateway that says what the test wants, and a freezer that freezes it."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    #: `cron.list` is answered 503.
    mute: bool = False
    asked: list[str] = field(default_factory=list)
    frozen: bool = False

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """The admin RPC."""
        method = json.loads(request.content)["method"]
        self.asked.append(method)
        body: dict[str, Any] = {"ok": True, "payload": {"status": "ready", "suspensionId": "s-1"}}
        if method == "cron.list":
            body = (
                {"ok": False, "error": {"message": "no"}}
                if self.mute
                else {"ok": True, "payload": {"jobs": self.lines}}
            )
        return httpx.Response(200 if body["ok"] else 503, stream=httpx.ByteStream(json.dumps(body).encode()))

    async def freeze(self, _instance_id: str) -> None:
        self.frozen = True

    async def give_back(self, _instance_id: str) -> None: ...


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
async def context(
    machine: Machine, database: Database, settings: Settings, host_facts: HostFacts
) -> AsyncIterator[ProvisionerContext]:
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now(), last_message_at=now() - 3600)
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(
            Instance(
                id=ID,
                user_id=user.id,
                plan="standard",
                image="sha256:" + "0" * 64,
                address="192.0.2.7",
                container=ContainerState.RUNNING,
                ready_at=now(),
                met_generation=1,
                created_at=now(),
            )
        )
    containers = cast(Containers, machine)
    async with httpx.AsyncClient(transport=httpx.MockTransport(machine.answer)) as http:
        yield ProvisionerContext(
            settings=settings,
            database=database,
            nudge=Nudge(),
            host=host_facts,
            front_key=FrontKey(b"f" * 32),
            gateway_key=GatewayKey(b"g" * 32),
            containers=containers,
            stacks=cast(StackManager, machine),
            archive=Archive(settings.state, ArchiveKey(b"a" * 32), containers),
            http=http,
        )


def waking(context: ProvisionerContext, machine: Machine) -> Waking:
    freezer, admission = cast(Freezer, machine), cast(WakeAdmission, machine)
    return Waking(context, freezer, admission, asyncio.Semaphore(1))


async def work(context: ProvisionerContext) -> Work:
    query = select(Instance, User, Wish).join(User, User.id == Instance.user_id).join(Wish, Wish.user_id == User.id)
    async with context.database.read() as session:
        instance, user, wish = (await session.execute(query)).one()
    return Work(context, instance, user, wish)


async def told(database: Database) -> list[dict[str, Any]]:
    query = select(Announcement).order_by(Announcement.id)
    async with database.read() as session:
        found = list(await session.scalars(query))
    assert all((one.telegram_id, one.news, one.told_at) == (7, News.LATE_JOB, None) for one in found)
    return [one.detail for one in found]


def line(job_id: str, due_at: float) -> dict[str, Any]:
    return {"id": job_id, "name": f"Job {job_id}", "enabled": True, "nextRunAtMs": int(due_at * 1000)}


async def slept_through(context: ProvisionerContext, *known: Job) -> None:
    """The row as it is when the instance is up again after a rest with these jobs."""
    columns = jobs.at_rest(known, now(), PLAN, tired=False)
    await (await work(context)).save(**columns)


async def test_a_late_job_is_told_in_the_commit_that_forgets_it(
    context: ProvisionerContext, machine: Machine, database: Database
) -> None:
    due_at = now() - 3600
    await slept_through(context, Job("a", "tea", due_at), Job("b", "cake", now() + 3600))
    machine.lines = [line("a", due_at), line("b", now() + 3600)]
    await waking(context, machine).catch_up(await work(context))
    assert await told(database) == [{"name": "tea", "due_at": due_at}]
    after = (await work(context)).instance
    assert (after.jobs, after.next_job_at) == (None, None)


async def test_what_cannot_be_asked_now_is_asked_later(
    context: ProvisionerContext, machine: Machine, database: Database
) -> None:
    due_at = now() - 3600
    await slept_through(context, Job("a", "tea", due_at))
    machine.mute = True
    await waking(context, machine).catch_up(await work(context))
    assert await told(database) == []
    machine.mute = False
    await waking(context, machine).catch_up(await work(context))
    assert await told(database) == [{"name": "tea", "due_at": due_at}]


async def test_it_rests_until_its_next_job(context: ProvisionerContext, machine: Machine) -> None:
    due_at = now() + 3600
    machine.lines = [line("b", due_at + 60), line("a", due_at)]
    await Resting(context, cast(Freezer, machine)).sleep(await work(context), IDLE, asked=False)
    resting = (await work(context)).instance
    assert machine.frozen
    # Once it is suspended it answers nothing else.
    assert machine.asked == ["cron.list", "gateway.suspend.prepare"]
    assert resting.next_job_at == pytest.approx(due_at, abs=0.001)
    assert [job["id"] for job in resting.jobs or ()] == ["a", "b"]


async def test_it_waits_for_a_job_that_is_near_unless_somebody_wants_it_to_sleep(
    context: ProvisionerContext, machine: Machine
) -> None:
    machine.lines = [line("a", now() + 60)]
    resting = Resting(context, cast(Freezer, machine))
    with pytest.raises(Refused, match="Job a"):
        await resting.sleep(await work(context), IDLE, asked=False)
    awake = (await work(context)).instance
    assert (machine.frozen, awake.fenced_at, awake.next_job_at) == (False, None, None)
    await resting.sleep(await work(context), IDLE, asked=True)
    assert machine.frozen
    assert (await work(context)).instance.next_job_at is not None


async def test_jobs_without_end_neither_keep_it_awake_nor_wake_it_at_once(
    context: ProvisionerContext, machine: Machine
) -> None:
    machine.lines = [line("a", now() + 1)]
    await Resting(context, cast(Freezer, machine)).sleep(await work(context), TIRED, asked=False)
    resting = (await work(context)).instance
    wake_at = jobs.wake_at(resting, ContainerState.PAUSED)
    assert machine.frozen
    assert wake_at is not None
    assert wake_at > now() + PLAN.awake / 2


async def test_one_that_does_not_say_what_jobs_it_has_sleeps_without_being_woken_for_them(
    context: ProvisionerContext, machine: Machine
) -> None:
    machine.mute = True
    resting = Resting(context, cast(Freezer, machine))
    with pytest.raises(Refused, match="which jobs"):
        await resting.sleep(await work(context), IDLE, asked=False)
    assert not machine.frozen
    await resting.sleep(await work(context), TIRED, asked=False)
    asleep = (await work(context)).instance
    assert machine.frozen
    assert (asleep.jobs, asleep.next_job_at) == (None, None)
    assert jobs.owed(asleep, now())
