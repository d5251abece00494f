"""Sends what waits: one lane for each chat that has something, in order, within Telegram's limits."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bot.front import metrics
from bot.front.outbox import effects, rows
from bot.front.outbox.answers import refusal
from bot.front.outbox.calls import counts_in_chat, makes_messages
from bot.front.outbox.limits import Pacer
from bot.front.outbox.rows import Taken
from bot.front.outbox.spool import Spool
from bot.front.outbox.waiters import Waiters
from bot.front.outbox.wording import marked_as_repeat, without_what_was_refused
from bot.front.telegram import TelegramApi, TelegramUnavailable
from bot.store import Database, now

_log = structlog.get_logger(__name__)

#: Seconds after which a message is too old to be sent.
_TOO_OLD = 24 * 3600.0
#: Seconds for which it is tried even then: it may be that only the clock was set.
_LAST_TRIES = 90.0
#: Times that Telegram may answer one call with 5xx while it takes others.
_MOST_ERRORS = 10
_DATABASE_ERRORS = (SQLAlchemyError, OSError)


@dataclass(frozen=True)
class Backoff:
    """Seconds between tries: from `first`, doubled, up to `longest`, each up to half shorter by chance."""

    first: float = 0.5
    longest: float = 30.0

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass
class _Lane:
    task: asyncio.Task[None]
    #: Somebody put something in since the lane looked.
    again: bool = False
    #: It has nothing in hand, so it may be ended.
    waiting: bool = False


@dataclass
class _Failures:
    """Failures in a row of a chat's first call."""

    row: int = 0
    count: int = 0
    errors: int = 0
    since: float = 0.0

    def add(self, row: int, *, answered: bool, at: float) -> int:
        if row != self.row:
            self.row, self.count, self.errors, self.since = row, 0, 0, at
        self.count += 1
        self.errors += answered
        return self.count


class Dispatcher:
    """The only sender of what the outbox holds."""

    def __init__(
        self,
        database: Database,
        api: TelegramApi,
        spool: Spool,
        pacer: Pacer,
        backoff: Backoff,
        waiters: Waiters,
    ) -> None:
        self._database = database
        self._api = api
        self._spool = spool
        self._pacer = pacer
        self._backoff = backoff
        self._waiters = waiters
        self._lanes: dict[int, _Lane] = {}
        self._failures: dict[int, _Failures] = defaultdict(_Failures)
        self._running = False

    async def start(self) -> None:
        """Remove files that nothing waits for, and let lanes begin."""
        async with self._database.read() as session:
            wanted = await rows.spooled(session)
        removed = self._spool.sweep(wanted)
        if removed:
            _log.info("removed spooled files that no message waits for", files=removed)
        self._running = True

    async def look(self) -> None:
        """See that each chat with something to send has a lane."""
        async with self._database.read() as session:
            chats = await rows.open_chats(session)
        for chat_id in chats:
            self.poke(chat_id)

    def poke(self, chat_id: int) -> None:
        """Something was put in for the chat."""
        if not self._running:
            return
        lane = self._lanes.get(chat_id)
        if lane is not None:
            lane.again = True
            return
        task = asyncio.create_task(self._drain(chat_id))
        self._lanes[chat_id] = _Lane(task)

    def busy(self, chat_id: int) -> bool:
        """Whether the chat has something to send."""
        return chat_id in self._lanes

    async def stop(self, grace: float) -> None:
        """Begin nothing more, and give what is in flight `grace` seconds to be answered and recorded."""
        self._running = False
        lanes = list(self._lanes.values())
        at_work = [lane.task for lane in lanes if not lane.waiting]
        if at_work and grace > 0:
            await asyncio.wait(at_work, timeout=grace)
        for lane in lanes:
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in lanes), return_exceptions=True)

    async def _drain(self, chat_id: int) -> None:
        lane = self._lanes[chat_id]
        try:
            while self._running:
                lane.again = False
                method = await self._next(chat_id)
                if method is None:
                    if lane.again:
                        continue
                    break
                lane.waiting = True
                await self._pacer.acquire(chat_id, counted=counts_in_chat(method))
                lane.waiting = False
                taken = await self._take(chat_id) if self._running else None
                if taken is not None:
                    await self._send(chat_id, taken)
        except _DATABASE_ERRORS as error:
            # The next look begins again.
            if self._database.trouble.reason is None:
                _log.error("the outbox cannot be read; it is tried again", error=type(error).__name__)
        except Exception:
            _log.exception("a lane of the outbox broke; it is begun again")
            self._pacer.trouble(chat_id, self._backoff.longest)
        finally:
            if self._lanes.get(chat_id) is lane:
                del self._lanes[chat_id]

    async def _next(self, chat_id: int) -> str | None:
        async with self._database.read() as session:
            return await rows.next_method(session, chat_id)

    async def _take(self, chat_id: int) -> Taken | None:
        async with self._database.write() as session:
            return await rows.take(session, chat_id, self._spool.folder)

    async def _send(self, chat_id: int, taken: Taken) -> None:
        if taken.answer is not None:
            await self._settle(chat_id, taken, taken.answer)
            return
        params = marked_as_repeat(taken.method, taken.params) if taken.in_doubt else taken.params
        try:
            answer = await self._api.call(taken.method, params, taken.files)
        except TelegramUnavailable as unavailable:
            await self._again(chat_id, taken, unavailable)
            return
        except FileNotFoundError:
            await self._settle(chat_id, taken, refusal(400, "Bad Request: the file is gone"))
            return
        except (TypeError, ValueError):
            await self._settle(chat_id, taken, refusal(400, "Bad Request: the call cannot be written as a request"))
            return
        retry_after = seconds_of_429(answer)
        if retry_after is not None:
            metrics.OUTBOX_MESSAGES.labels("limited").inc()
            self._pacer.trouble(chat_id, retry_after)
            await self._record_put_back(taken, str(answer.get("description", "")), in_doubt=False)
            return
        self._pacer.success()
        self._failures.pop(chat_id, None)
        await self._settle(chat_id, taken, answer)

    async def _again(self, chat_id: int, taken: Taken, unavailable: TelegramUnavailable) -> None:
        metrics.OUTBOX_MESSAGES.labels("unavailable").inc()
        failures = self._failures[chat_id]
        count = failures.add(taken.row, answered=unavailable.answered, at=self._pacer.now())
        alone = failures.errors >= _MOST_ERRORS and self._pacer.last_success > failures.since
        failing = self._pacer.now() - failures.since
        if alone or (now() - taken.created_at > _TOO_OLD and failing > _LAST_TRIES):
            await self._settle(chat_id, taken, refusal(400, f"Bad Request: the message was given up: {unavailable}"))
            return
        if count == 1:
            _log.warning("a message waits for Telegram", row=taken.row, method=taken.method, reason=str(unavailable))
        self._pacer.trouble(chat_id, self._backoff.after(count), unanswered=not unavailable.answered)
        await self._record_put_back(taken, str(unavailable), in_doubt=unavailable.in_doubt)

    async def _settle(self, chat_id: int, taken: Taken, answer: dict[str, Any]) -> None:
        less = without_what_was_refused(taken.params, answer)
        if less is not None and not self._waiters.any(taken.row):
            # Nobody is there any more to send it again in other words.
            await self._until_recorded(lambda: self._record_change(taken, less))
            return
        await self._until_recorded(lambda: self._record_settled(chat_id, taken, answer))
        result = "failed" if not answer.get("ok") else "uncertain" if taken.in_doubt else "sent"
        metrics.OUTBOX_MESSAGES.labels(result).inc()
        if taken.in_doubt:
            _log.warning("a message that was cut off in flight was sent once more", row=taken.row, result=result)
        elif result == "failed":
            _log.info("Telegram refused a message", method=taken.method, reason=str(answer.get("description", "")))
        self._waiters.answer(taken.row, answer)
        if taken.files:
            await asyncio.to_thread(self._spool.discard, [file.path for file in taken.files])

    async def _record_settled(self, chat_id: int, taken: Taken, answer: Mapping[str, Any]) -> None:
        async with self._database.write() as session:
            await rows.settle(session, taken, chat_id, answer)
            if answer.get("ok") and taken.instance_id is not None and makes_messages(taken.method):
                await effects.note_reply(session, chat_id)
            if effects.is_blocked(answer):
                await effects.note_blocked(session, chat_id)

    async def _record_change(self, taken: Taken, params: dict[str, Any]) -> None:
        async with self._database.write() as session:
            await rows.put_back(session, taken, "Telegram refused the markup or the reply.", in_doubt=False)
            await rows.change(session, taken, params)

    async def _record_put_back(self, taken: Taken, error: str, *, in_doubt: bool) -> None:
        async def record() -> None:
            async with self._database.write() as session:
                await rows.put_back(session, taken, error, in_doubt=in_doubt)

        await self._until_recorded(record)

    async def _until_recorded(self, record: Callable[[], Any]) -> None:
        """What Telegram answered is known only here, so it is recorded however long the database takes."""
        failures = 0
        while True:
            try:
                await record()
                return
            except _DATABASE_ERRORS as error:
                failures += 1
                if failures == 1 and self._database.trouble.reason is None:
                    _log.error("the outbox cannot be written; it is tried again", error=type(error).__name__)
                await asyncio.sleep(self._backoff.after(failures))


def seconds_of_429(answer: Mapping[str, Any]) -> float | None:
    """The seconds to wait where the answer is a flood limit."""
    if answer.get("ok") or answer.get("error_code") != 429:
        return None
    parameters = answer.get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return float(wait) if isinstance(wait, int | float) and wait >= 0 else 1.0
