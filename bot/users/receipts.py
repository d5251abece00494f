"""Receipts: what was removed of a person whose data is deleted, one line each.

The provisioner adds its lines with the end of the instance's row; the front, which removes the rest, adds its own. The
receipt is the person's, or the operator's where one asked for the deletion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store import now
from bot.store.tables import Announcement, News

#: So that a receipt fits into one message.
_MOST_LINES = 30
_LONGEST_LINE = 100


async def add(session: AsyncSession, telegram_id: int, removed: Sequence[str]) -> None:
    """Note what the provisioner removed, in the transaction that removes the instance's row; lines without markup."""
    await _note(session, telegram_id, {"removed": list(removed)})


async def ask(session: AsyncSession, telegram_id: int) -> int:
    """Have the person's receipt kept for the operator who waits for it; the number to :func:`collect` it by."""
    return (await _note(session, telegram_id, {"operator": True})).id


async def take(session: AsyncSession, telegram_id: int) -> list[str]:
    """What the provisioner removed; its notes go with that."""
    lines = []
    for note in await _notes(session, telegram_id):
        if not note.detail.get("operator"):
            lines += _lines(note.detail)
            await session.delete(note)
    await session.flush()
    return lines


async def hand_over(session: AsyncSession, telegram_id: int, lines: Sequence[str]) -> bool:
    """Keep the receipt, which names nobody, for the operators who wait for it; False: none does."""
    asked = [note for note in await _notes(session, telegram_id) if note.detail.get("operator")]
    for note in asked:
        note.telegram_id, note.detail, note.told_at = 0, {"removed": list(lines)}, now()
    return bool(asked)


async def collect(session: AsyncSession, number: int) -> list[str] | None:
    """The receipt that was asked for, which is not kept any longer; None: it is not there yet."""
    note = await session.get(Announcement, number, with_for_update=True)
    if note is None or note.told_at is None:
        return None
    await session.delete(note)
    return _lines(note.detail)


async def _note(session: AsyncSession, telegram_id: int, detail: dict[str, Any]) -> Announcement:
    note = Announcement(telegram_id=telegram_id, news=News.DELETED, detail=detail, created_at=now())
    session.add(note)
    await session.flush()
    return note


async def _notes(session: AsyncSession, telegram_id: int) -> list[Announcement]:
    query = (
        select(Announcement)
        .where(Announcement.telegram_id == telegram_id, Announcement.news == News.DELETED)
        .order_by(Announcement.id)
        .with_for_update()
    )
    return list(await session.scalars(query))


def _lines(detail: dict[str, Any]) -> list[str]:
    removed = detail.get("removed")
    lines = [str(line)[:_LONGEST_LINE] for line in removed] if isinstance(removed, list) else []
    return lines[:_MOST_LINES]
