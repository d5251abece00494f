"""Scheduled jobs, run and caught up as OpenClaw 2026.9.6 was seen to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import structlog

from bot.standins.instance.botapi import BotApi, TelegramFailed
from bot.standins.instance.brain import Brain, ModelFailed
from bot.standins.instance.config import InstanceConfig
from bot.standins.instance.suspension import RpcError
from bot.standins.instance.turns import send_text

_log = structlog.get_logger(__name__)

#: Seconds after a start at which the first job that was missed runs, and between it and the others.
CATCH_UP_AFTER = 120.0
_STAGGER = 5.0
#: Seconds between looks while nothing may run.
_SUSPENDED = 0.2
_PAGE = 200
_RUNS = 50
_INTERRUPTED = "cron: job interrupted by gateway restart"
_PREAMBLE = "This is an unattended scheduled run. If nothing needs doing, reply exactly NO_REPLY."

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL, body TEXT NOT NULL);
"""


class Cron:
    """Jobs for one time (`at`) and for each so many milliseconds (`every`); cron expressions it does not know."""

    def __init__(
        self,
        config: Callable[[], InstanceConfig],
        path: Path | None,
        http: httpx.AsyncClient,
        catch_up_after: float = CATCH_UP_AFTER,
    ) -> None:
        self._config = config
        self._http = http
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._connection.executescript(_SCHEMA)
        found = self._connection.execute("SELECT body FROM jobs").fetchall()
        self._jobs: dict[str, dict[str, Any]] = {job["id"]: job for (body,) in found for job in [json.loads(body)]}
        self._look = asyncio.Event()
        self.active = 0
        self._catch_up(catch_up_after)

    def add(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`cron.add`."""
        schedule, payload = params.get("schedule"), params.get("payload")
        if not isinstance(params.get("name"), str) or not isinstance(schedule, dict) or not isinstance(payload, dict):
            raise RpcError("INVALID_REQUEST", "invalid cron.add params: name, schedule and payload are required")
        if payload.get("kind") != "agentTurn" or not isinstance(payload.get("message"), str):
            raise RpcError("INVALID_REQUEST", 'invalid cron.add params: this stand-in runs payload.kind="agentTurn"')
        at = _ms(time.time())
        job = {
            "id": str(uuid4()),
            "name": params["name"],
            "enabled": params.get("enabled", True) is True,
            **({"deleteAfterRun": True} if schedule.get("kind") == "at" else {}),
            "createdAtMs": at,
            "updatedAtMs": at,
            "schedule": {**schedule, "anchorMs": at} if schedule.get("kind") == "every" else schedule,
            "sessionTarget": params.get("sessionTarget", "isolated"),
            "wakeMode": params.get("wakeMode", "now"),
            "payload": payload,
            "delivery": params.get("delivery", {"mode": "announce"}),
            "state": {},
        }
        job["state"]["nextRunAtMs"] = _next(job, at)
        self._save(job)
        return _view(job)

    def remove(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`cron.remove`."""
        return {"ok": True, "removed": self._delete(str(params.get("id") or params.get("jobId")))}

    def list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`cron.list`: soonest first, jobs without a next run last."""
        chosen = [job for job in self._jobs.values() if job["enabled"] or params.get("includeDisabled") is True]
        chosen.sort(key=lambda job: (job["state"].get("nextRunAtMs", float("inf")), job["id"]))
        limit = min(int(params.get("limit", _PAGE)), _PAGE)
        view = _compact if params.get("compact") is True else _view
        return {**_page(len(chosen), limit), "jobs": [view(job) for job in chosen[:limit]]}

    def runs(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`cron.runs`: latest first."""
        wanted = params.get("id") or params.get("jobId")
        rows = self._connection.execute("SELECT job_id, body FROM runs ORDER BY number DESC").fetchall()
        entries = [json.loads(body) for job_id, body in rows if wanted in (None, job_id)]
        return {**_page(len(entries), _RUNS), "entries": entries[:_RUNS]}

    async def run(self, may_run: Callable[[], bool]) -> None:
        """Run what is due until cancelled. `may_run` is asked before each job."""
        while True:
            self._look.clear()
            due_at, soonest = min(
                ((due, job["id"]) for job in self._jobs.values() if (due := _due(job))), default=(None, "")
            )
            wait = None if due_at is None else due_at / 1000 - time.time()
            if wait is not None and wait <= 0.0 and may_run():
                await self._execute(self._jobs[soonest])
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait is None else max(wait, _SUSPENDED)):
                    await self._look.wait()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    async def _execute(self, job: dict[str, Any]) -> None:
        started = _ms(time.time())
        job["state"]["runningAtMs"] = started
        self._save(job)
        self.active += 1
        try:
            summary, error = await self._turn(job), None
        except (ModelFailed, TelegramFailed) as failure:
            summary, error = "", str(failure)
            _log.warning("a job failed", job=job["name"], reason=error)
        finally:
            self.active -= 1
        if job["id"] in self._jobs:
            self._finish(job, started, summary, error)

    async def _turn(self, job: dict[str, Any]) -> str:
        config = self._config()
        words = f"[cron:{job['id']} {job['name']}] {job['payload']['message']}"
        moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        prompt = f"{words}\nCurrent time: {moment} (UTC)\nReference UTC: {moment}\n\n{_PREAMBLE}"
        text = await Brain(self._http).answer_prompt(config, prompt)
        if text not in ("", "NO_REPLY") and job["delivery"].get("mode") == "announce":
            api = BotApi(self._http, config.api_root, config.bot_token)
            await send_text(api, job["delivery"].get("to") or min(config.owners), text)
        return text

    def _finish(self, job: dict[str, Any], started: int, summary: str, error: str | None) -> None:
        state, ended = job["state"], _ms(time.time())
        del state["runningAtMs"]
        at = job["schedule"]["kind"] == "at"
        state.update(lastRunAtMs=started, lastRunStatus="error" if error else "ok", lastDurationMs=ended - started)
        if error is not None:
            state["lastError"] = error
        due = state.pop("nextRunAtMs")
        if not at:
            state["nextRunAtMs"] = _next(job, ended)
        self._note(job, started, state.get("nextRunAtMs", due), summary, error)
        if at and error is None:
            self._delete(job["id"])
            return
        job["enabled"] = not at
        self._save(job)

    def _catch_up(self, after: float) -> None:
        """What a start does with jobs that were interrupted, and with those that were due before it."""
        at = _ms(time.time())
        missed = sorted((job for job in self._jobs.values() if (_due(job) or at) < at), key=lambda job: _due(job) or 0)
        for number, job in enumerate(missed):
            state = job["state"]
            started = state.pop("runningAtMs", None)
            if started is not None:
                state.update(lastRunAtMs=started, lastRunStatus="error", lastError=_INTERRUPTED)
                self._note(job, started, state["nextRunAtMs"], "", _INTERRUPTED)
            interrupted = started is not None and job["schedule"]["kind"] != "at"
            state["nextRunAtMs"] = _next(job, at) if interrupted else at + _ms(after + number * _STAGGER)
            self._save(job)

    def _note(self, job: dict[str, Any], started: int, next_at: int, summary: str, error: str | None) -> None:
        ended = _ms(time.time())
        entry: dict[str, Any] = {"ts": ended, "jobId": job["id"], "action": "finished", "runAtMs": started}
        entry |= {"status": "error" if error else "ok", "summary": summary, "durationMs": ended - started}
        entry |= {"nextRunAtMs": next_at, "jobName": job["name"], **({"error": error} if error else {})}
        self._connection.execute("INSERT INTO runs (job_id, body) VALUES (?, ?)", (job["id"], json.dumps(entry)))

    def _save(self, job: dict[str, Any]) -> None:
        self._jobs[job["id"]] = job
        self._connection.execute("INSERT OR REPLACE INTO jobs (id, body) VALUES (?, ?)", (job["id"], json.dumps(job)))
        self._look.set()

    def _delete(self, job_id: str) -> bool:
        self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        return self._jobs.pop(job_id, None) is not None


def _next(job: Mapping[str, Any], at: int) -> int:
    """The first run after `at`, in milliseconds; raises :class:`RpcError` for a schedule that there is none of."""
    schedule = job["schedule"]
    try:
        if schedule["kind"] == "at":
            return _ms(datetime.fromisoformat(schedule["at"]).timestamp())
        if schedule["kind"] == "every":
            every, anchor = int(schedule["everyMs"]), int(schedule["anchorMs"])
            return int(anchor + ((at - anchor) // every + 1) * every)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise RpcError("INVALID_REQUEST", f"invalid cron.add params: schedule: {error}") from None
    raise RpcError("INVALID_REQUEST", 'invalid cron.add params: this stand-in knows the schedules "at" and "every"')


def _due(job: Mapping[str, Any]) -> int | None:
    found: int | None = job["state"].get("nextRunAtMs") if job["enabled"] else None
    return found


def _view(job: Mapping[str, Any]) -> dict[str, Any]:
    next_at = job["state"].get("nextRunAtMs")
    return {**job, **({} if next_at is None else {"nextRunAtMs": next_at}), "effectiveAgentId": "main"}


def _compact(job: Mapping[str, Any]) -> dict[str, Any]:
    state = job["state"]
    running = {"runningAtMs": state["runningAtMs"]} if "runningAtMs" in state else {}
    return {
        **{name: job[name] for name in ("id", "name", "updatedAtMs", "enabled", "schedule")},
        "scheduleKind": job["schedule"]["kind"],
        "nextRunAtMs": state.get("nextRunAtMs"),
        "lastRunAtMs": state.get("lastRunAtMs"),
        "lastRunStatus": state.get("lastRunStatus"),
        "lastRunError": state.get("lastError"),
        **running,
        "effectiveAgentId": "main",
    }


def _page(total: int, limit: int) -> dict[str, Any]:
    more = total > limit
    return {"total": total, "offset": 0, "limit": limit, "hasMore": more, "nextOffset": limit if more else None}


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
