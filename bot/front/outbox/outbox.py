"""The outbox: what is said to Telegram is committed first, and reaches it however long that takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import metrics
from bot.front.context import FrontContext
from bot.front.outbox import rows
from bot.front.outbox.answers import DONE, provisional, recorded, refusal
from bot.front.outbox.calls import BotCall, with_numbers
from bot.front.outbox.dispatch import Backoff, Dispatcher, seconds_of_429
from bot.front.outbox.limits import Limits, Pacer
from bot.front.outbox.putting import Queued, put
from bot.front.outbox.repeats import Repeats
from bot.front.outbox.spool import Spool
from bot.front.outbox.waiters import Waiters
from bot.front.telegram import TelegramApi, TelegramUnavailable
from bot.nudge import LOOK_AGAIN, Topic
from bot.store.tables import OutboxMessage

_log = structlog.get_logger(__name__)

_PRUNE_EVERY = 3600.0
_COUNT_EVERY = 5.0
#: Calls of one chat that may wait, and bytes of what they say; an instance that has more is not heard.
_MOST_WAITING = 1000
_MOST_BYTES = 4 * 2**20
#: Seconds that a call waits for a database in trouble.
_DATABASE_PATIENCE = 60.0
#: Seconds that an answer may still be on its way to whoever waits, once its row is finished.
_LAST_METRES = 5.0


@dataclass(frozen=True)
class OutboxPolicy:
    """How fast, how patient; tests make it quick."""

    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    #: Seconds that a stop waits for what is in flight.
    grace: float = 5.0
    #: Seconds that anybody waits at most for Telegram's answer.
    patience: float = 30.0


class Outbox:
    """Puts calls in, and sends them in the background while :meth:`run` runs."""

    def __init__(self, context: FrontContext, api: TelegramApi, policy: OutboxPolicy | None = None) -> None:
        policy = policy or OutboxPolicy()
        self.spool = Spool(context.settings.state / "spool")
        self._database = context.database
        self._nudge = context.nudge
        self._api = api
        self._grace = policy.grace
        self._patience = policy.patience
        self._backoff = policy.backoff
        self._pacer = Pacer(policy.limits)
        self._waiters = Waiters()
        self._repeats = Repeats(context.settings.state / "run" / "unheard", context.key)
        self._repeats.load()
        self._asking: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._dispatcher = Dispatcher(
            context.database, api, self.spool, self._pacer, policy.backoff, waiters=self._waiters
        )

    async def enqueue(self, session: AsyncSession, call: BotCall) -> int:
        """Put a call in within the caller's transaction; its row. Call :meth:`ring` after the commit."""
        queued = await put(session, call, self.spool.folder)
        self.discard_after(session, queued.dropped)
        return queued.row

    def ring(self) -> None:
        """Something was committed to the outbox."""
        self._nudge.ring(Topic.OUTBOX)

    async def post(
        self, call: BotCall, wait: float = 10.0, noted: Callable[[int], None] = lambda _row: None
    ) -> dict[str, Any]:
        """Commit a call, and Telegram's answer to it, in Telegram's shape.

        Where none comes within `wait` seconds the call stays committed, and the answer is one of our own with
        provisional message ids. 5xx and 429 of Telegram never show here. The files are the outbox's from now on.

        A call that an earlier process committed and did not answer is not committed again. `noted` is told the row,
        for which :meth:`heard` is to be called once the answer is on its way.
        """
        unheard = self._repeats.take(call)
        if unheard is not None:
            answer = await self._answer_again(*unheard, call, wait, noted)
            if answer is not None:
                return answer
        queued, future = await self._commit(call)
        if future is None:
            return queued.answer or DONE
        noted(queued.row)
        self._dispatcher.poke(call.chat_id)
        return await self._answer(queued.row, future, call, wait)

    def heard(self, row: int) -> None:
        """The row's answer is on its way to whoever made the call."""
        self._repeats.heard(row)

    async def _answer(
        self, row: int, future: asyncio.Future[dict[str, Any]], call: BotCall, wait: float
    ) -> dict[str, Any]:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, self._patience)):
                    return await asyncio.shield(future)
            async with self._database.write() as session:
                told = await rows.tell_provisional(session, row)
            if not told:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_METRES):
                        return await asyncio.shield(future)
            return provisional(row, call.method, call.chat_id, with_numbers(call.params))
        finally:
            self._waiters.remove(row, future)

    async def _answer_again(
        self, at: float, row: int, call: BotCall, wait: float, noted: Callable[[int], None]
    ) -> dict[str, Any] | None:
        """The answer that an earlier process did not give; None: the row noted at `at` was never committed."""
        # Before the look, after which the answer may come at any moment.
        future = self._waiters.add(row)
        try:
            async with self._database.read() as session:
                found = await rows.of_instance(session, row, call.instance_id)
        except BaseException:
            self._waiters.remove(row, future)
            self.spool.discard([file.path for file in call.files])
            noted(row)
            raise
        if found is not None and found.created_at > at:
            # SQLite gives the id of a row that was rolled back again: this one is another call.
            found = None
        if found is None or found.finished_at is not None:
            self._waiters.remove(row, future)
        if found is None:
            self._repeats.void(at, row)
            return None
        noted(row)
        _log.info("a call was made again whose answer was not heard", row=row, method=call.method)
        self.spool.discard([file.path for file in call.files])
        if found.finished_at is not None:
            return recorded(row, call.method, call.chat_id, with_numbers(call.params), found.response)
        return await self._answer(row, future, call, wait)

    async def pass_by(self, call: BotCall, *, to_chat: bool = True) -> dict[str, Any]:
        """Make a call that is worth nothing later (typing, drafts): now if the limits have room, else not at all.

        Telegram's refusals are passed on; where the call was not made or not heard, the answer is that it was.
        """
        if not self._pacer.take_spare(call.chat_id, counted=to_chat):
            return DONE
        try:
            answer = await self._api.call(call.method, call.params)
        except TelegramUnavailable:
            return DONE
        wait = seconds_of_429(answer)
        if wait is not None:
            self._pacer.trouble(call.chat_id, wait)
            return DONE
        return answer

    async def ask(self, call: BotCall, wait: float = 10.0) -> dict[str, Any] | None:
        """Telegram's answer to a call that only asks, tried again until `wait` seconds are over; None: none came."""
        failures = 0
        # One question of a chat at a time, or who asks much would have most of the turns.
        turn = self._asking.setdefault(call.chat_id, asyncio.Lock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(wait, self._patience)), turn:
                while True:
                    await self._pacer.acquire(None)
                    failures += 1
                    try:
                        answer = await self._api.call(call.method, call.params)
                    except TelegramUnavailable:
                        await asyncio.sleep(self._backoff.after(failures))
                        continue
                    pause = seconds_of_429(answer)
                    if pause is None:
                        return answer
                    await asyncio.sleep(pause)
        return None

    async def resolve(self, chat_id: int, message_id: int) -> int:
        """Telegram's own id of a message; the given one where Telegram has none for it (yet)."""
        async with self._database.read() as session:
            return await rows.real_id(session, chat_id, message_id) or message_id

    async def run(self) -> None:
        """Send until cancelled; then what is in flight gets a few seconds to be answered and recorded."""
        await self._dispatcher.start()
        pruned = counted = float("-inf")
        try:
            while True:
                seen = self._nudge.seen(Topic.OUTBOX)
                try:
                    await self._dispatcher.look()
                    if time.monotonic() - counted > _COUNT_EVERY:
                        await self._count()
                        counted = time.monotonic()
                    if time.monotonic() - pruned > _PRUNE_EVERY:
                        await self._prune()
                        pruned = time.monotonic()
                except (SQLAlchemyError, OSError) as error:
                    if self._database.trouble.reason is None:
                        _log.error("the outbox cannot be looked at; it is tried again", error=type(error).__name__)
                    seen = self._nudge.seen(Topic.OUTBOX)
                await self._nudge.wait(Topic.OUTBOX, seen, LOOK_AGAIN)
        finally:
            await self._dispatcher.stop(self._grace)

    async def _commit(self, call: BotCall) -> tuple[Queued, asyncio.Future[dict[str, Any]] | None]:
        """The call's row, and what will be its answer; None: it needs none of Telegram.

        A database in trouble is waited for: a client that hears of it gives the message up.
        """
        trouble = self._database.trouble
        deadline = time.monotonic() + _DATABASE_PATIENCE
        while True:
            try:
                queued, future = await self._try_to_commit(call)
                break
            except Exception:
                if trouble.reason is None or time.monotonic() >= deadline:
                    self.spool.discard([file.path for file in call.files])
                    raise
            await trouble.wait_over(deadline - time.monotonic())
        if future is None:
            self.spool.discard([file.path for file in call.files])
        return queued, future

    async def _try_to_commit(self, call: BotCall) -> tuple[Queued, asyncio.Future[dict[str, Any]] | None]:
        future: asyncio.Future[dict[str, Any]] | None = None
        queued = Queued(0, refusal(400, "Bad Request: too many messages wait for this chat; send fewer"))
        try:
            async with self._database.write() as session:
                if not await self._is_full(session, call):
                    queued = await put(session, call, self.spool.folder)
                    self.discard_after(session, queued.dropped)
                    if queued.answer is None:
                        # Before the commit, after which the answer may come at any moment.
                        future = self._waiters.add(queued.row)
                        self._repeats.kept(queued.row, call)
        except Exception:
            if future is not None:
                self._waiters.remove(queued.row, future)
                self._repeats.doubtful(queued.row)
            raise
        return queued, future

    async def _is_full(self, session: AsyncSession, call: BotCall) -> bool:
        if not self._dispatcher.busy(call.chat_id):
            return False
        waiting, size = await rows.waiting_in(session, call.chat_id, _MOST_WAITING)
        return waiting >= _MOST_WAITING or size + len(json.dumps(call.params)) > _MOST_BYTES

    def discard_after(self, session: AsyncSession, files: Sequence[Path]) -> None:
        """Remove spooled files once the caller's transaction is committed."""
        if files:
            event.listen(session.sync_session, "after_commit", lambda _: self.spool.discard(files), once=True)

    async def _count(self) -> None:
        async with self._database.read() as session:
            waiting = await session.scalar(
                select(func.count()).select_from(OutboxMessage).where(OutboxMessage.finished_at.is_(None))
            )
        metrics.OUTBOX_PENDING.set(waiting or 0)

    async def _prune(self) -> None:
        async with self._database.write() as session:
            await rows.prune(session)
