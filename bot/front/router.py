"""Takes each person's updates in order to their instance, many people at a time, and wakes or makes what is missing.

Everything that matters is in the database: a router that is killed anywhere and started again goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import func, literal_column, select, union, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import farewell, metrics
from bot.front.batches import Batches
from bot.front.clock import ClockWatch
from bot.front.context import FrontContext
from bot.front.delivery import LONGEST_PAUSE, MOST_AT_ONCE, Delivery, Outcome, pause_after
from bot.front.desk import Desk
from bot.front.handovers import Handover, record
from bot.front.inbox import DATABASE_ERRORS, IS_PENDING, Pending, reason, settle
from bot.front.notices import QUIET, Notice, Notices, due, next_change
from bot.front.outbox import Outbox
from bot.front.talk import Talk
from bot.front.typing_sign import TypingSign
from bot.front.updates import Sender, sender_of
from bot.front.view import View, look
from bot.nudge import Topic
from bot.store import now
from bot.store.tables import (
    WAIT,
    ContainerState,
    Decision,
    InboxStatus,
    InboxUpdate,
    Instance,
    Recipient,
    User,
    UserStatus,
    Waiting,
    Wanted,
    Wish,
)
from bot.users import admission, people

_log = structlog.get_logger(__name__)

#: Transactions of the router at a time, so that storing what arrives never waits long for its turn.
_MOST_TRANSACTIONS = 8
#: People looked at, or updates marked as delivered, in one transaction; and people asked for in one query.
_MOST_IN_BATCH = 100
_CHUNK = 500
#: Seconds: a wait without news is looked at again, a database or an error of ours given time, the model waited for.
_LOOK_ANYWAY = 30.0
_AFTER_ERROR = 2.0
_MODEL_PAUSE = 1.0
#: Seconds between two attempts to start an instance that failed, each asked for by a newer message.
_RETRY_FAILED = 30.0
#: Seconds that a stop leaves for what is under way.
_GRACE = 3.0

#: What of an instance decides whether something can be delivered to it.
_WATCHED = (
    Instance.container,
    Instance.ready_at,
    Instance.fenced_at,
    Instance.failure,
    Instance.met_generation,
    Instance.address,
    Instance.credentials_epoch,
    Instance.archive,
)
_Snapshot = tuple[object, ...]
#: Spelled out, not a parameter: only then do the databases use the partial index on it.
_IS_LEAVING = Wish.wanted == literal_column("'absent'")


@dataclass
class _Lane:
    """One person's updates being taken care of, one after the other."""

    telegram_id: int
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    #: The instance as it was when the lane began to wait for it to change; None: it does not wait for that.
    waits_on: _Snapshot | None = None
    #: The start of the instance at which the last attempt failed: another start is worth another attempt at once.
    failed_at_start: float | None = None


class Router:
    """Runs a lane for each person who has something pending, and none for anybody else."""

    def __init__(
        self,
        context: FrontContext,
        outbox: Outbox,
        model_down: Callable[[], bool] = lambda: False,
        delivery: Delivery | None = None,
        grace: float = _GRACE,
    ) -> None:
        """`model_down`: whether turns would fail now because the model does; the router waits while it is true.

        `grace`: seconds that a stop leaves for what is under way.
        """
        self._context = context
        self._outbox = outbox
        self._model_down = model_down
        self._delivery = delivery or Delivery(context.key)
        self._talk = Talk(context, outbox)
        self._notices = Notices(self._talk)
        self._desk = Desk(context, outbox, self._talk, self._notices)
        self._typing = TypingSign(outbox)
        self._clock = ClockWatch(context.database)
        self._grace = grace
        self._stopping = False
        self._lanes: dict[int, _Lane] = {}
        self._looks = Batches(self._look, _MOST_IN_BATCH)
        self._records = Batches(self._record, _MOST_IN_BATCH)
        self._transactions = asyncio.Semaphore(_MOST_TRANSACTIONS)
        self._deliveries = asyncio.Semaphore(MOST_AT_ONCE)

    def wake(self, telegram_id: int) -> None:
        """There is something new for this person."""
        if self._stopping:
            return
        lane = self._lanes.get(telegram_id)
        if lane is None:
            lane = self._lanes[telegram_id] = _Lane(telegram_id)
            lane.task = asyncio.create_task(self._serve(lane))
        lane.bell.set()

    async def run(self) -> None:
        """Until cancelled; then what is under way gets a moment, and the next router does again what is cut off."""
        self._stopping = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_around())
                group.create_task(self._watch_instances())
                group.create_task(self._typing.run())
                group.create_task(self._clock.run())
        finally:
            await self._stop_lanes()

    async def close(self) -> None:
        """Close connections, after :meth:`run` has ended."""
        await self._stop_lanes()
        await self._desk.close()
        await self._delivery.close()

    async def _stop_lanes(self) -> None:
        self._stopping = True
        lanes, self._lanes = list(self._lanes.values()), {}
        tasks = [lane.task for lane in lanes if lane.task is not None]
        for lane in lanes:
            lane.bell.set()
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_around(self) -> None:
        """Find whoever has something pending: at the start, and whenever somebody else changed the database."""
        while True:
            seen = self._context.nudge.seen(Topic.INBOX)
            try:
                await self._find_work()
            except DATABASE_ERRORS as error:
                self._complain("the inbox cannot be looked at; it is tried again", error)
            await self._context.nudge.wait(Topic.INBOX, seen)

    async def _find_work(self) -> None:
        leaving = select(User.telegram_id).join(Wish, Wish.user_id == User.id).where(_IS_LEAVING)
        query = union(select(InboxUpdate.telegram_id).where(IS_PENDING), select(Waiting.telegram_id), leaving)
        async with self._context.database.read() as session:
            found = (await session.scalars(query)).all()
            count = await session.scalar(select(func.count()).select_from(InboxUpdate).where(IS_PENDING))
        metrics.INBOX_PENDING.set(count or 0)
        for telegram_id in found:
            if telegram_id not in self._lanes:
                self.wake(telegram_id)

    async def _watch_instances(self) -> None:
        """Ring for those whose instance is no longer what their lane saw when it began to wait."""
        while True:
            seen = self._context.nudge.seen(Topic.INSTANCES)
            waiting = [lane for lane in self._lanes.values() if lane.waits_on is not None]
            try:
                for start in range(0, len(waiting), _CHUNK):
                    await self._compare(waiting[start : start + _CHUNK])
            except DATABASE_ERRORS as error:
                self._complain("the instances cannot be looked at; it is tried again", error)
            await self._context.nudge.wait(Topic.INSTANCES, seen)

    async def _compare(self, lanes: Sequence[_Lane]) -> None:
        query = (
            select(User.telegram_id, *_WATCHED)
            .join(Instance, Instance.user_id == User.id)
            .where(User.telegram_id.in_([lane.telegram_id for lane in lanes]))
        )
        async with self._context.database.read() as session:
            found = {row[0]: tuple(row[1:]) for row in await session.execute(query)}
        for lane in lanes:
            if lane.waits_on is not None and found.get(lane.telegram_id, ()) != lane.waits_on:
                lane.bell.set()

    async def _serve(self, lane: _Lane) -> None:
        while not self._stopping:
            lane.bell.clear()
            try:
                pause = await self._step(lane)
            except DATABASE_ERRORS as error:
                self._complain("a person's updates cannot be looked at; it is tried again", error)
                pause = _AFTER_ERROR
            except Exception:
                _log.exception("a person's updates could not be taken care of; it is tried again")
                pause = _AFTER_ERROR
            if pause is None:
                if lane.bell.is_set():
                    continue
                self._typing.hide(lane.telegram_id)
                if self._lanes.get(lane.telegram_id) is lane:
                    del self._lanes[lane.telegram_id]
                return
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await lane.bell.wait()

    def _complain(self, what: str, error: BaseException) -> None:
        """Log an error of the database, unless that is in trouble, which it tells itself."""
        if self._context.database.trouble.reason is None:
            _log.error(what, reason=reason(error))

    async def _step(self, lane: _Lane) -> float | None:
        """Take care of one thing; the seconds until the next look, None where nothing is left."""
        lane.waits_on = None
        if self._context.database.trouble.reason is not None:
            # What is handed over now could not be recorded, and would be handed over again and again.
            return _AFTER_ERROR
        view = await self._looks.add(lane.telegram_id)
        row = view.row
        if view.leaving:
            if row is not None and row.recipient == Recipient.ZAKI and row.kind == "callback_query":
                # The person's app waits for an answer; all else is the beginning of something new.
                await self._handle(row)
                return 0.0
            return await self._end_leaving(lane, view)
        if row is not None:
            if row.expires_at <= now():
                await self._expire(view)
                return 0.0
            if row.recipient == Recipient.ZAKI:
                await self._handle(row)
                return 0.0
        if view.user is None or view.user.status in (UserStatus.REFUSED, UserStatus.SUSPENDED):
            return await self._meet_stranger(view)
        if view.user.status == UserStatus.BLOCKED:
            return await self._meet_blocked(lane, view)
        if view.instance is None or not _can_take(view.instance):
            return await self._wait_for_instance(lane, view) if row or view.waiting else None
        if row is not None:
            return await self._deliver(lane, view, view.user, view.instance, row)
        if view.waiting is not None:
            async with self._write() as session:
                await self._notices.end(session, view.telegram_id)
        return None

    async def _look(self, telegram_ids: list[int]) -> list[View]:
        return await self._context.database.read_short(lambda session: look(session, telegram_ids))

    async def _record(self, handovers: list[Handover]) -> list[bool]:
        return await self._context.database.write_short(lambda session: record(session, handovers))

    async def _handle(self, row: Pending) -> None:
        async with self._transactions:
            try:
                await self._desk.handle(row)
            except DATABASE_ERRORS:
                raise
            except Exception:
                # One that we cannot deal with must not stand in the way of all that follow.
                _log.exception("an update for Zaki could not be handled and is dropped", update=row.update_id)
                async with self._context.database.write() as session:
                    await settle(session, row, InboxStatus.HANDLED, "It could not be handled.")

    async def _meet_stranger(self, view: View) -> float | None:
        """Admit somebody, or refuse them politely and once."""
        row = view.row
        if row is None:
            if view.waiting is None:
                return None
            async with self._write() as session:
                await self._notices.drop(session, view.telegram_id)
            return 0.0
        async with self._write() as session:
            if row.kind != "message":
                await settle(session, row, InboxStatus.HANDLED)
                return 0.0
            sender = sender_of(json.loads(row.body)) or Sender(view.telegram_id, "", None, None)
            user = await people.remember(session, view.telegram_id, sender.first_name, sender.username, sender.language)
            decision = await admission.admit(session, self._context.settings, user)
            if decision.new:
                await self._notices.begin(session, view.telegram_id, setup=True)
            elif decision.refused is not None:
                if admission.tell_once(user):
                    await self._talk.say(session, view.telegram_id, decision.refused.sentence)
                await settle(session, row, InboxStatus.HANDLED)
        return 0.0

    async def _meet_blocked(self, lane: _Lane, view: View) -> float | None:
        """Whoever writes has unblocked us; what they wrote before they blocked us waits."""
        row, wish = view.row, view.wish
        if row is None:
            if view.waiting is not None:
                async with self._write() as session:
                    await self._notices.drop(session, view.telegram_id)
            return None
        if wish is not None and wish.wanted == Wanted.STOPPED and row.received_at <= wish.asked_at:
            return self._park(lane, view, row.expires_at - now())
        async with self._write() as session:
            user = await people.find(session, view.telegram_id)
            if user is not None and user.status == UserStatus.BLOCKED:
                user.status = UserStatus.ACTIVE
        return 0.0

    async def _wait_for_instance(self, lane: _Lane, view: View) -> float:
        """Wish for it where that is still to be done, show the person that it comes, and wait for it to change."""
        row, instance, waiting = view.row, view.instance, view.waiting
        at = now()
        # Before anything is written: it is how the person sees at once that somebody is there.
        if row is not None and (instance is None or instance.failure is None):
            self._typing.show(view.telegram_id)
        else:
            self._typing.hide(view.telegram_id)
        again = await self._should_ask_again(view)
        wished = view.wish is not None and view.wish.wanted == Wanted.AWAKE and not again
        queued = waiting is not None and at - waiting.since >= QUIET and await self._is_queued(instance)
        notice = due(waiting, instance, at, queued=queued) if waiting is not None else None
        outdated = waiting is not None and notice is not None and waiting.shown not in (notice, Notice.LOST)
        if not wished or waiting is None or outdated:
            async with self._write() as session:
                user = await people.find(session, view.telegram_id)
                present = await session.get(Wish, user.id, with_for_update=True) if user is not None else None
                # Since the look they may have been suspended, or be leaving.
                left = present is None or present.wanted == Wanted.ABSENT
                if user is None or user.status != UserStatus.ACTIVE or left:
                    return 0.0
                await people.wish(session, user, Wanted.AWAKE, again=again)
                waiting = await self._notices.begin(session, view.telegram_id, setup=_is_new(instance))
                await self._notices.advance(session, view.telegram_id, instance, queued=queued)
        return self._park(lane, view, next_change(waiting, at), row.expires_at - at if row else None)

    async def _is_queued(self, instance: Instance | None) -> bool:
        """Whether it waits for room on the machine."""
        if instance is None or instance.container == ContainerState.RUNNING:
            return False
        latest = (
            select(Decision.action).where(Decision.instance_id == instance.id).order_by(Decision.id.desc()).limit(1)
        )
        async with self._transactions, self._context.database.read() as session:
            return await session.scalar(latest) == WAIT

    async def _should_ask_again(self, view: View) -> bool:
        """Whether the wish for an instance that is awake was met, and it is not awake (any more)."""
        wish, instance = view.wish, view.instance
        if wish is None or instance is None or instance.met_generation < wish.generation:
            return False
        if instance.failure is None:
            return instance.container != ContainerState.RUNNING or instance.fenced_at is not None
        # Nothing is gained by starting a broken one over and over; a newer message is a reason to try once more.
        newest = select(func.max(InboxUpdate.received_at)).where(
            InboxUpdate.telegram_id == view.telegram_id, IS_PENDING
        )
        async with self._transactions, self._context.database.read() as session:
            received_at = await session.scalar(newest)
        return received_at is not None and received_at > wish.asked_at + _RETRY_FAILED

    async def _deliver(self, lane: _Lane, view: View, user: User, instance: Instance, row: Pending) -> float | None:
        at = now()
        if self._model_down():
            self._typing.show(view.telegram_id)
            return _MODEL_PAUSE
        pause = row.next_attempt_at - at
        # One that is longer than any was set before the clock was put back.
        if 0 < pause <= LONGEST_PAUSE and lane.failed_at_start == instance.ready_at:
            return self._park(lane, view, pause)
        async with self._deliveries:
            answer = await self._delivery.hand_over(instance, row.body)
        match answer.outcome:
            case Outcome.ACCEPTED:
                await self._delivered(view, user, row)
                self._typing.hide(view.telegram_id)
                return 0.0 if view.more else None
            case Outcome.NEVER:
                await self._refused(row, answer.reason)
                return 0.0
            case Outcome.LATER:
                lane.failed_at_start = instance.ready_at
                self._typing.show(view.telegram_id)
                await self._postpone(row, answer.reason)
        return 0.0

    async def _delivered(self, view: View, user: User, row: Pending) -> None:
        fenced = await self._records.add(Handover(row, user))
        metrics.DELIVERED.inc()
        metrics.DELIVERY_SECONDS.observe(max(0.0, now() - row.received_at))
        if fenced:
            self._context.nudge.ring(Topic.WISHES)
        if view.waiting is not None:
            async with self._write() as session:
                await self._notices.end(session, view.telegram_id)

    async def _refused(self, row: Pending, why: str) -> None:
        _log.warning("an instance refused an update for good", update=row.update_id, reason=why)
        async with self._write() as session:
            await settle(session, row, InboxStatus.EXPIRED, why)
            if row.kind == "message":
                text = "😔 I am sorry, your assistant cannot read the message that you sent last."
                await self._talk.say(session, row.telegram_id, text)

    async def _postpone(self, row: Pending, why: str) -> None:
        values = {
            "attempts": row.attempts + 1,
            "next_attempt_at": now() + pause_after(row.attempts + 1),
            "last_error": why,
        }
        statement = update(InboxUpdate).where(InboxUpdate.id == row.id).values(**values)
        async with self._write() as session:
            await session.execute(statement.execution_options(synchronize_session=False))

    async def _expire(self, view: View) -> None:
        """Drop what is too old to be of use; messages are worth a word, once."""
        if await self._clock.follow():
            # It is not old, the clock was set.
            return
        statement = (
            update(InboxUpdate)
            .where(
                InboxUpdate.telegram_id == view.telegram_id,
                IS_PENDING,
                InboxUpdate.expires_at <= now(),
            )
            .values(status=InboxStatus.EXPIRED, settled_at=now(), body=b"")
            .returning(InboxUpdate.kind)
            .execution_options(synchronize_session=False)
        )
        async with self._write() as session:
            kinds = (await session.scalars(statement)).all()
            if "message" in kinds and view.user is not None and view.user.status == UserStatus.ACTIVE:
                await self._notices.lost(session, view.telegram_id)
        if kinds:
            _log.warning("updates expired before they could be delivered", count=len(kinds))

    async def _end_leaving(self, lane: _Lane, view: View) -> float:
        """Remove what is left of a person once their instance is gone."""
        self._typing.hide(view.telegram_id)
        if view.instance is not None:
            return self._park(lane, view)
        async with self._write() as session:
            user = await people.find(session, view.telegram_id)
            done = await farewell.end(session, user, self._outbox.spool.folder) if user is not None else None
            if done is not None:
                self._outbox.discard_after(session, done.files)
                if done.goodbye is not None:
                    await self._talk.say(session, view.telegram_id, done.goodbye)
        return 0.0

    def _park(self, lane: _Lane, view: View, *pauses: float | None) -> float:
        """Wait for the instance to change, at most the shortest of the pauses (seconds)."""
        instance = view.instance
        lane.waits_on = tuple(getattr(instance, column.key) for column in _WATCHED) if instance is not None else ()
        return max(0.01, min([_LOOK_ANYWAY, *(pause for pause in pauses if pause is not None)]))

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncSession]:
        """A transaction, after which whoever it concerns is told to look."""
        async with self._transactions, self._context.database.write() as session:
            yield session
        self._outbox.ring()
        self._context.nudge.ring(Topic.WISHES)


def _can_take(instance: Instance) -> bool:
    return (
        instance.container == ContainerState.RUNNING
        and instance.ready_at is not None
        and instance.fenced_at is None
        and instance.address is not None
    )


def _is_new(instance: Instance | None) -> bool:
    """Whether it was never up."""
    return instance is None or (instance.met_generation == 0 and instance.ready_at is None)
