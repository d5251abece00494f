"""What happened for a person, noted beside the work itself."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from bot.store.database import now
from bot.store.tables import TimelineEntry


class Stage(StrEnum):
    """The stages that people and benches look for."""

    RECEIVED = "received"  #: an update is in the inbox
    ADMITTED = "admitted"  #: a new person may have an instance
    REFUSED = "refused"
    CREATING = "creating"  #: Pulumi `up` begins
    DECLARED = "declared"  #: `up` is done: volume and container exist
    STARTED = "started"  #: the gateway's process runs
    WOKEN = "woken"  #: frozen until now, the gateway goes on
    READY = "ready"  #: `/readyz` answers ready
    DELIVERED = "delivered"  #: the instance took the update durably
    REPLIED = "replied"  #: the instance's first message since the delivery was accepted by Telegram
    CLAIMED = "claimed"  #: a new person got an instance of the warm pool
    SLEEPING = "sleeping"  #: nothing is delivered any more; it is about to be frozen
    ASLEEP = "asleep"  #: frozen, its memory given back
    STOPPED = "stopped"
    ARCHIVED = "archived"  #: its files are in the archive; container and volume are gone
    RESTORED = "restored"  #: its files are back in a volume
    DELETED = "deleted"
    FAILED = "failed"


_TIMELINE: Table = TimelineEntry.__table__  # type: ignore[assignment]
_APPEND = insert(_TIMELINE)


def note(session: AsyncSession, telegram_id: int, stage: Stage, detail: str = "") -> None:
    """Append an entry in the caller's transaction."""
    session.add(TimelineEntry(at=now(), telegram_id=telegram_id, stage=stage, detail=detail))


def note_all(session: Session, entries: Iterable[tuple[int, Stage, str]]) -> None:
    """Append entries of several people (Telegram id, stage, detail) in one statement."""
    at = now()
    rows = [{"at": at, "telegram_id": who, "stage": stage, "detail": detail} for who, stage, detail in entries]
    if rows:
        session.execute(_APPEND, rows)
