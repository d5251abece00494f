"""Scheduled jobs: when an instance at rest has to be awake for its next one, and which of them ran late.

OpenClaw runs its jobs itself, and a missed one once: a second or two after a thaw, two minutes after a start. So nobody
runs them here too; an instance is only awake in time, and its person is told what was late. What a gateway says of its
jobs is its own claim: it may cost a wake now and then, no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from bot.provisioner.gateway import Gateway
from bot.store.tables import ContainerState, Instance
from bot.users.plans import Plan

#: Seconds before a job is due at which the wake begins. Asleep: a thaw takes a second or two, more where memory is
#: short. Not running: 10 to 15 seconds to readiness, a minute where the machine is busy, and what is due before then
#: runs only two minutes after the start. Archived: the files come back first.
_LEAD_ASLEEP = 20.0
_LEAD_STOPPED = 90.0
_LEAD_ARCHIVED = 300.0
#: Seconds over which the wakes for jobs of the same minute are spread: people like full hours.
_SPREAD = 60
#: Seconds after which a job counts as late.
LATE = 5 * 60.0
#: Seconds after a start within which OpenClaw has begun what it runs late: two minutes, and five seconds for each job.
_CATCHES_UP = 10 * 60.0
#: Jobs that are asked for and kept of one instance, how far ahead, and characters of a name.
_LISTED = 200
_KEPT = 50
_HORIZON = 366 * 24 * 3600.0
_NAME = 80
#: Jobs that OpenClaw makes for itself; they run when it is awake anyway.
_SYSTEM_KEYS = ("heartbeat:", "skill-collection-review:")
_SYSTEM_NAMES = frozenset({"Memory Dreaming Promotion", "Memory Light Dreaming", "Memory REM Dreaming"})


@dataclass(frozen=True)
class Job:
    """A job of the person's."""

    id: str
    #: One line of at most 80 characters, in the assistant's or the person's own words.
    name: str
    #: Unix time; in the past: it is overdue, or running.
    due_at: float


@dataclass(frozen=True)
class LateJob:
    """A job that was due while the instance was down, and runs now."""

    name: str
    due_at: float


async def upcoming(gateway: Gateway, now: float) -> list[Job]:
    """The person's jobs that have a time, soonest first; to be asked before the gateway is suspended.

    Raises :class:`bot.provisioner.gateway.GatewayError`.
    """
    listed = await _list(gateway)
    jobs = [Job(job.id, job.name, job.next_at) for job in listed if job.enabled and job.next_at is not None]
    ahead = [job for job in jobs if 0.0 < job.due_at < now + _HORIZON]
    return sorted(ahead, key=lambda job: job.due_at)[:_KEPT]


def near(jobs: Sequence[Job], now: float, plan: Plan) -> Job | None:
    """The job that is due too soon for a sleep to be worth it; None: there is none."""
    return next((job for job in jobs if job.due_at < now + plan.idle / 3), None)


def at_rest(jobs: Sequence[Job], now: float, plan: Plan, *, tired: bool) -> dict[str, Any]:
    """The instance's columns about its jobs, from its falling asleep on.

    `tired`: jobs alone kept it awake for as long as its plan lets them, so for as long they do not wake it.
    """
    earliest = now + plan.awake if tired else 0.0
    return {
        "next_job_at": max(jobs[0].due_at, earliest) if jobs else None,
        "jobs": [asdict(job) for job in jobs],
    }


#: The same columns once it is awake and its late jobs are told, and where nothing is known of its jobs.
AWAKE: Mapping[str, Any] = {"next_job_at": None, "jobs": None}


def wake_at(instance: Instance, container: ContainerState) -> float | None:
    """When the wake for the instance's next job begins; None: it has none."""
    if instance.next_job_at is None:
        return None
    if instance.archive is not None or container is ContainerState.NONE:
        lead = _LEAD_ARCHIVED
    else:
        lead = _LEAD_ASLEEP if container is ContainerState.PAUSED else _LEAD_STOPPED
    return instance.next_job_at - lead - crc32(instance.id.encode()) % _SPREAD


def owed(instance: Instance, now: float) -> bool:
    """Whether a job of the instance's may be late now: it was when it fell asleep, or nothing is known of its jobs."""
    if instance.jobs is None:
        return instance.met_generation > 0
    return any(job.due_at <= now - LATE for job in _kept(instance.jobs))


async def catch_up(gateway: Gateway, instance: Instance, now: float) -> list[LateJob]:
    """The jobs that were due long before now while the instance was down, and that OpenClaw runs now or has run since.

    To be asked once it is ready, and told in the commit that writes :data:`AWAKE`. Raises
    :class:`bot.provisioner.gateway.GatewayError`.
    """
    listed = {job.id: job for job in await _list(gateway)}
    known = {job.id: job for job in _kept(instance.jobs)}
    # It went down without being put to sleep: only what is overdue now is known.
    for job in listed.values():
        if job.id not in known and job.due_at is not None:
            known[job.id] = Job(job.id, job.name, job.due_at)
    late = [
        job for job in known.values() if 0.0 < job.due_at <= now - LATE and _runs_late(job, listed.get(job.id), now)
    ]
    late.sort(key=lambda job: job.due_at)
    return [LateJob(job.name, job.due_at) for job in late[:_KEPT]]


def _runs_late(job: Job, listed: _Listed | None, now: float) -> bool:
    if listed is None:
        # A job for one time is gone once it has run.
        return True
    if listed.last_at is not None and listed.last_at >= job.due_at:
        return listed.last_at >= job.due_at + LATE
    # What is due far ahead now has been left out on purpose, and what is running began before the rest.
    waits = listed.next_at is not None and listed.next_at < now + _CATCHES_UP
    return listed.enabled and waits and not (listed.running_at is not None and listed.running_at < job.due_at + LATE)


@dataclass(frozen=True)
class _Listed:
    """A line of the gateway's list; times are Unix times, None where there is none."""

    id: str
    name: str
    enabled: bool
    #: The one time that it is for, where it is for one.
    once: float | None
    next_at: float | None
    last_at: float | None
    running_at: float | None

    @classmethod
    def of(cls, entry: object) -> _Listed | None:
        """None for what is no job, and for OpenClaw's own."""
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not 0 < len(entry["id"]) <= 128:
            return None
        key, name = entry.get("declarationKey"), entry.get("displayName") or entry.get("name")
        if isinstance(key, str) and key.startswith(_SYSTEM_KEYS):
            return None
        if isinstance(name, str) and name in _SYSTEM_NAMES:
            return None
        schedule = entry.get("schedule")
        once = _time(schedule.get("at")) if isinstance(schedule, dict) and schedule.get("kind") == "at" else None
        next_at, last_at = _seconds(entry, "nextRunAtMs"), _seconds(entry, "lastRunAtMs")
        if once is not None and next_at is not None and last_at is not None and next_at > last_at:
            # It was cut off, and runs again.
            last_at = None
        enabled, running_at = entry.get("enabled") is True, _seconds(entry, "runningAtMs")
        return cls(entry["id"], _line(name), enabled, once, next_at, last_at, running_at)

    @property
    def due_at(self) -> float | None:
        """When the run was or is due that has not been; after a start the next run may be the late one."""
        if not self.enabled or self.next_at is None:
            return None
        due_at = self.next_at if self.once is None else self.once
        return None if self.last_at is not None and self.last_at >= due_at else due_at


async def _list(gateway: Gateway) -> list[_Listed]:
    """The person's jobs, those that are switched off too."""
    params = {"compact": True, "includeDisabled": True, "limit": _LISTED, "sortBy": "nextRunAtMs", "sortDir": "asc"}
    answer = await gateway.call("cron.list", params)
    found = answer.get("jobs") if isinstance(answer, dict) else None
    entries = found[:_LISTED] if isinstance(found, list) else []
    return [job for job in map(_Listed.of, entries) if job is not None]


def _kept(rows: object) -> list[Job]:
    return [Job(row["id"], row["name"], row["due_at"]) for row in rows] if isinstance(rows, list) else []


def _seconds(entry: Mapping[str, Any], name: str) -> float | None:
    found = entry.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        seconds = float(found) / 1000
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _time(written: object) -> float | None:
    """A time as OpenClaw writes it; without a zone it is UTC."""
    try:
        found = datetime.fromisoformat(str(written))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _line(name: object) -> str:
    words = "".join(letter if letter.isprintable() else " " for letter in name[:1000]) if isinstance(name, str) else ""
    line = " ".join(words.split())
    return (line if len(line) <= _NAME else f"{line[: _NAME - 1]}…") or "a job without a name"
