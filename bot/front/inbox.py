"""The durable inbox: an update is committed before Telegram hears that it was taken."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import Table, delete, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from bot.front import metrics, seen_files
from bot.front.batches import Batches
from bot.front.context import FrontContext
from bot.front.updates import Arrival
from bot.store import now
from bot.store.tables import Announcement, InboxStatus, InboxUpdate, Recipient, TimelineEntry
from bot.timeline import Stage, note_all

_log = structlog.get_logger(__name__)

#: Requests or polls in one commit; what arrives meanwhile is in the next.
_BATCH = 100
#: Seconds: an update is told to be a repeated one for this long, and a timeline kept for this long.
_KEEP_SETTLED = 48 * 3600.0
_KEEP_TIMELINE = 14 * 24 * 3600.0
_SWEEP_EVERY = 60.0
_SWEEP_PAUSE = 0.1
_SWEEP_AT_MOST = 500

#: Spelled out, not a parameter: only then do the databases use the partial index on it.
IS_PENDING = InboxUpdate.status == literal_column("'pending'")

_INBOX: Table = InboxUpdate.__table__  # type: ignore[assignment]
_INSERT = {
    name: dialect.insert(_INBOX).on_conflict_do_nothing(index_elements=["update_id"]).returning(_INBOX.c.update_id)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


#: What a database that is down raises; a refused connection comes as it is.
DATABASE_ERRORS = (SQLAlchemyError, OSError)


class Pending(NamedTuple):
    """An update that waits, as much of it as whoever takes care of it needs."""

    id: int
    update_id: int
    telegram_id: int
    kind: str
    recipient: Recipient
    body: bytes
    received_at: float
    expires_at: float
    attempts: int
    next_attempt_at: float


class InboxUnavailable(Exception):
    """The database does not take updates now; Telegram must send them again."""


class Inbox:
    """Stores updates; those that arrive together share one commit, so that a burst costs few of them."""

    def __init__(self, context: FrontContext, on_stored: Callable[[int], None]) -> None:
        """`on_stored` is called with the Telegram id of each person who has something new, after the commit."""
        self._database = context.database
        self._on_stored = on_stored
        self._batches = Batches(self._commit, _BATCH)

    async def store(self, arrivals: Sequence[Arrival]) -> int:
        """Commit the updates; returns how many are new, the others were there. Raises :class:`InboxUnavailable`."""
        return await self._batches.add(arrivals) if arrivals else 0

    async def sweep(self) -> None:
        """Remove what was settled or told long ago and old timelines, a bounded number at a time, until cancelled."""
        while True:
            more = await self.sweep_once() >= _SWEEP_AT_MOST
            await asyncio.sleep(_SWEEP_PAUSE if more else _SWEEP_EVERY)

    async def sweep_once(self) -> int:
        """One bounded pass; returns how many rows of the fuller table went."""
        at = now()
        settled = (
            select(InboxUpdate.id)
            .where(InboxUpdate.received_at < at - _KEEP_SETTLED, InboxUpdate.status != InboxStatus.PENDING)
            .order_by(InboxUpdate.received_at)
            .limit(_SWEEP_AT_MOST)
        )
        # The oldest are the first: looking at more than those would be a scan.
        oldest = select(TimelineEntry.id, TimelineEntry.at).order_by(TimelineEntry.id).limit(_SWEEP_AT_MOST).subquery()
        told = select(oldest.c.id).where(oldest.c.at < at - _KEEP_TIMELINE)
        news = select(Announcement.id, Announcement.told_at).order_by(Announcement.id).limit(_SWEEP_AT_MOST).subquery()
        announced = select(news.c.id).where(news.c.told_at < at - _KEEP_SETTLED)
        async with self._database.write() as session:
            await session.execute(delete(Announcement).where(Announcement.id.in_(announced)))
            updates = await session.execute(delete(InboxUpdate).where(InboxUpdate.id.in_(settled)))
            entries = await session.execute(delete(TimelineEntry).where(TimelineEntry.id.in_(told)))
        return max(_rows(updates), _rows(entries))

    async def _commit(self, batch: list[Sequence[Arrival]]) -> list[int]:
        arrivals = {arrival.update_id: arrival for entry in batch for arrival in entry}
        try:
            new = await self._database.write_short(lambda session: _insert(session, list(arrivals.values())))
        except DATABASE_ERRORS as error:
            metrics.UPDATES.labels("unavailable").inc(len(batch))
            if self._database.trouble.reason is None:
                _log.error("the inbox cannot be written", reason=reason(error))
            raise InboxUnavailable("The database does not take updates now.") from None
        for telegram_id in {arrivals[update_id].telegram_id for update_id in new if _is_work(arrivals[update_id])}:
            self._on_stored(telegram_id)
        counts = []
        for entry in batch:
            # The first of equal ones in a batch is the new one.
            fresh = new.intersection(arrival.update_id for arrival in entry)
            new -= fresh
            metrics.UPDATES.labels("stored").inc(len(fresh))
            metrics.UPDATES.labels("repeated").inc(len(entry) - len(fresh))
            counts.append(len(fresh))
        return counts


async def settle(session: AsyncSession, row: Pending, status: InboxStatus, error: str | None = None) -> None:
    """Mark an update as done in the caller's transaction; its content goes with that."""
    values = {"status": status, "settled_at": now(), "body": b"", "last_error": error}
    await session.execute(
        update(InboxUpdate)
        .where(InboxUpdate.id == row.id, IS_PENDING)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _is_work(arrival: Arrival) -> bool:
    return arrival.recipient is not Recipient.NOBODY


def _insert(session: Session, arrivals: Sequence[Arrival]) -> set[int]:
    """Insert what is not there; returns the ids of the new ones."""
    at = now()
    # In order, so that two transactions that store the same updates cannot wait for each other in a circle.
    rows = [_values(arrival, at) for arrival in sorted(arrivals, key=lambda arrival: arrival.update_id)]
    new = set(session.scalars(_INSERT[session.get_bind().dialect.name], rows))
    work = [arrival for arrival in arrivals if arrival.update_id in new and _is_work(arrival)]
    note_all(session, ((arrival.telegram_id, Stage.RECEIVED, str(arrival.update_id)) for arrival in work))
    files: dict[int, list[object]] = defaultdict(list)
    for arrival in work:
        files[arrival.telegram_id].append(arrival.update)
    for telegram_id in sorted(files):
        seen_files.remember_now(session, telegram_id, files[telegram_id])
    return new


def _values(arrival: Arrival, at: float) -> dict[str, object]:
    work = _is_work(arrival)
    return {
        "update_id": arrival.update_id,
        "telegram_id": arrival.telegram_id,
        "kind": arrival.kind,
        "recipient": arrival.recipient,
        # Kept without content where nobody gets it: only the id is needed to know it again.
        "body": arrival.body if work else b"",
        "status": InboxStatus.PENDING if work else InboxStatus.HANDLED,
        "received_at": at,
        "expires_at": at + arrival.life,
        "settled_at": None if work else at,
        "attempts": 0,
        "next_attempt_at": 0.0,
    }


def _rows(result: object) -> int:
    return max(int(getattr(result, "rowcount", 0)), 0)


def reason(error: BaseException) -> str:
    """What to log of a database's error: without the statement's parameters, which hold what people wrote."""
    return f"{type(error).__name__}: {error.orig}" if isinstance(error, DBAPIError) else type(error).__name__
