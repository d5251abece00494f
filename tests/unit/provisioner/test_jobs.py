"""When an instance has to be awake for its jobs, and which of them are late, whatever its gateway says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from bot.provisioner import jobs
from bot.provisioner.gateway import Gateway
from bot.provisioner.jobs import Job, LateJob
from bot.store.tables import ContainerState, Instance
from bot.users.plans import PLANS

NOW = 1_795_564_800.0
PLAN = PLANS["standard"]
HOUR = 3600.0
ODD_TIMES: list[object] = [True, "9", [], {}, -1, 0, 10**400, float("inf"), float("nan"), 1e308, (NOW + 1e9) * 1000]


@dataclass(frozen=True)
class Claims(Gateway):
    """A gateway that answers this to `cron.list`."""

    http: Any = None
    address: str = "192.0.2.1"
    token: str = "token"
    answer: object = None

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Only lists are asked for: a job that somebody else runs too runs twice."""
        assert method == "cron.list"
        return self.answer


def line(job_id: str, next_at: float | None, *, last_at: float | None = None, **more: Any) -> dict[str, Any]:
    """A line of the compact list."""
    last = None if last_at is None else int(last_at * 1000)
    following = None if next_at is None else int(next_at * 1000)
    return {
        "id": job_id,
        "name": f"Job {job_id}",
        "enabled": True,
        "scheduleKind": "cron",
        "schedule": {"kind": "cron", "expr": "0 9 * * *"},
        "nextRunAtMs": following,
        "lastRunAtMs": last,
        **more,
    }


def once(at: str) -> dict[str, Any]:
    return {"scheduleKind": "at", "schedule": {"kind": "at", "at": at}}


async def ahead(*lines: object) -> list[Job]:
    return await jobs.upcoming(Claims(answer={"jobs": list(lines)}), NOW)


async def late(known: list[Job] | None, *lines: object) -> list[LateJob]:
    columns = jobs.at_rest(known, NOW, PLAN, tired=False) if known is not None else jobs.AWAKE
    return await jobs.catch_up(Claims(answer={"jobs": list(lines)}), Instance(id="u-abcdefghij", **columns), NOW)


async def test_the_persons_jobs_come_soonest_first() -> None:
    found = await ahead(line("b", NOW + 20), line("a", NOW + 10), line("over", None), line("running", NOW - 5))
    assert [job.id for job in found] == ["running", "a", "b"]
    assert found[1] == Job("a", "Job a", NOW + 10)


async def test_openclaws_own_jobs_wake_nobody() -> None:
    assert not await ahead(
        line("1", NOW + 10, declarationKey="skill-collection-review:main"),
        line("2", NOW + 10, declarationKey="heartbeat:main"),
        line("3", NOW + 10, name="Memory Dreaming Promotion"),
        line("4", NOW + 10, enabled=False),
    )


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "jobs",
        {"jobs": None},
        {"jobs": {"a": 1}},
        {"jobs": [None, 1, "x", [], {}, {"id": 7, "enabled": True, "nextRunAtMs": 1}]},
        {"jobs": [line("", NOW + 10), line("x" * 129, NOW + 10)]},
        *({"jobs": [line("a", None, nextRunAtMs=value)]} for value in ODD_TIMES),
    ],
)
async def test_an_odd_answer_holds_no_job(answer: object) -> None:
    assert await jobs.upcoming(Claims(answer=answer), NOW) == []
    assert await jobs.catch_up(Claims(answer=answer), Instance(id="u-abcdefghij", **jobs.AWAKE), NOW) == []


async def test_what_is_kept_of_a_flood_is_little() -> None:
    found = await ahead(*[line(str(number), NOW + number, name="x" * 10_000) for number in range(5_000)])
    assert len(found) == 50
    assert {len(job.name) for job in found} == {80}
    assert len(await late(None, *[line(str(number), NOW - HOUR) for number in range(5_000)])) == 50


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tea", "tea"),
        (" tea\n\ttime\x00\u202e ", "tea time"),
        ("", "a job without a name"),
        (None, "a job without a name"),
        (7, "a job without a name"),
        ("ä" * 81, "ä" * 79 + "…"),
    ],
)
async def test_a_name_is_one_short_line(name: object, shown: str) -> None:
    assert (await ahead(line("a", NOW + 10, name=name)))[0].name == shown


def test_it_stays_awake_for_a_job_that_is_near() -> None:
    job = Job("a", "tea", NOW + PLAN.idle / 3 - 1)
    assert jobs.near([job], NOW, PLAN) == job
    assert jobs.near([Job("a", "tea", NOW - 5)], NOW, PLAN) is not None
    assert jobs.near([replace(job, due_at=NOW + PLAN.idle / 3 + 1)], NOW, PLAN) is None
    assert jobs.near([], NOW, PLAN) is None


def test_each_rest_is_woken_in_time_and_the_deeper_ones_earlier() -> None:
    columns = jobs.at_rest([Job("a", "tea", NOW + HOUR)], NOW, PLAN, tired=False)
    instance = Instance(id="u-abcdefghij", **columns)
    asleep = jobs.wake_at(instance, ContainerState.PAUSED)
    stopped = jobs.wake_at(instance, ContainerState.EXITED)
    instance.archive = "snapshot"
    archived = jobs.wake_at(instance, ContainerState.NONE)
    assert asleep is not None
    assert stopped is not None
    assert archived is not None
    assert NOW + HOUR - 600 < archived < stopped < asleep <= NOW + HOUR - 20


def test_people_who_like_full_hours_are_not_all_woken_at_once() -> None:
    columns = jobs.at_rest([Job("a", "tea", NOW + HOUR)], NOW, PLAN, tired=False)
    instances = [Instance(id=f"u-{number:010}", **columns) for number in range(200)]
    wakes = [jobs.wake_at(instance, ContainerState.PAUSED) for instance in instances]
    assert len(set(wakes)) > 40
    assert wakes == [jobs.wake_at(instance, ContainerState.PAUSED) for instance in instances]


def test_without_a_job_nothing_wakes_it() -> None:
    for columns in (jobs.at_rest([], NOW, PLAN, tired=True), jobs.AWAKE):
        assert jobs.wake_at(Instance(id="u-abcdefghij", **columns), ContainerState.PAUSED) is None


def test_a_job_each_second_does_not_wake_it_all_the_time() -> None:
    columns = jobs.at_rest(
        [Job("a", "tick", NOW + 1), Job("b", "yearly", NOW + 300 * 24 * HOUR)], NOW, PLAN, tired=True
    )
    wake_at = jobs.wake_at(Instance(id="u-abcdefghij", **columns), ContainerState.PAUSED)
    assert wake_at is not None
    assert wake_at > NOW + PLAN.awake - 120
    far = jobs.at_rest([Job("b", "yearly", NOW + 300 * 24 * HOUR)], NOW, PLAN, tired=True)
    assert far["next_job_at"] == NOW + 300 * 24 * HOUR


def test_only_what_may_be_late_is_looked_for() -> None:
    def owed(known: list[Job] | None, generation: int = 3) -> bool:
        columns = jobs.at_rest(known, NOW, PLAN, tired=False) if known is not None else jobs.AWAKE
        return jobs.owed(Instance(id="u-abcdefghij", met_generation=generation, **columns), NOW)

    assert not owed([])
    assert not owed([Job("a", "tea", NOW - 10), Job("b", "tea", NOW + 10)])
    assert owed([Job("a", "tea", NOW - HOUR)])
    assert owed(None)
    assert not owed(None, generation=0)


TEA = Job("a", "tea", NOW - HOUR)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([line("a", NOW - HOUR)], id="the gateway has just been thawed"),
        pytest.param([line("a", NOW - HOUR, runningAtMs=int(NOW * 1000))], id="it runs"),
        pytest.param([line("a", NOW + 120)], id="the gateway has just been started"),
        pytest.param([line("a", NOW + 24 * HOUR, last_at=NOW - 30)], id="it has run"),
        pytest.param([line("a", NOW + 120, last_at=NOW - 25 * HOUR)], id="it ran the day before"),
        pytest.param([line("a", None, last_at=NOW - 30, enabled=False)], id="it has run, and failed"),
        pytest.param([], id="it was for one time and has run"),
    ],
)
async def test_a_job_that_was_due_while_it_slept_is_late(seen: list[object]) -> None:
    assert await late([TEA], *seen) == [LateJob("tea", NOW - HOUR)]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param([line("a", NOW + 24 * HOUR, last_at=NOW - HOUR + 2)], id="it ran in time"),
        pytest.param([line("a", NOW - HOUR, runningAtMs=int((NOW - HOUR + 2) * 1000))], id="frozen while it ran"),
        pytest.param([line("a", NOW - HOUR, enabled=False)], id="it was switched off"),
        pytest.param([line("a", NOW + 23 * HOUR)], id="missed ones are left out on purpose"),
    ],
)
async def test_a_job_that_is_not_run_late_is_not_told(seen: list[object]) -> None:
    assert await late([TEA], *seen) == []


async def test_a_little_late_is_not_late() -> None:
    known = [Job("a", "tea", NOW - 60), Job("b", "cake", NOW + 60)]
    assert await late(known, line("a", NOW - 60), line("b", NOW + 60)) == []


async def test_after_a_crash_what_is_overdue_is_late() -> None:
    missed = once("2026-11-24T23:00:00.000Z")
    crashed = await late(
        None,
        line("thawed or just started", NOW - 2 * HOUR, name="news"),
        line("rescheduled by the start", NOW + 120, name="tea", **missed),
        line("cut off, and runs again", NOW + 125, last_at=NOW - HOUR + 1, name="cake", **missed),
        line("done", NOW + HOUR, last_at=NOW - HOUR),
        line("failed", None, last_at=NOW - HOUR + 1, **missed),
        line("to come", NOW + HOUR, **once("2026-11-25T01:00:00Z")),
    )
    assert crashed == [LateJob("news", NOW - 2 * HOUR), LateJob("tea", NOW - HOUR), LateJob("cake", NOW - HOUR)]


async def test_odd_times_of_a_one_off_are_taken_as_they_can_be() -> None:
    for at in ("", "soon", "9" * 10_000, "0001-01-01T00:00:00+23:00"):
        assert await late(None, line("a", NOW - HOUR, name="tea", **once(at))) in ([LateJob("tea", NOW - HOUR)], [])
