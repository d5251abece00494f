"""Which of Telegram's files a person's instance may name: those that appeared in the person's chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from bot.store.database import now
from bot.store.tables import SeenFile

_LONGEST = 255


def file_ids(value: Any) -> set[str]:
    """Every `file_id` in an update or in an answer of the Bot API, however deep."""
    return set(_walk(value))


async def remember(session: AsyncSession, telegram_id: int, value: Any) -> None:
    """Note the files of an update or answer in the caller's transaction; without files it does nothing."""
    await session.run_sync(remember_now, telegram_id, value)


def remember_now(session: Session, telegram_id: int, value: Any) -> None:
    """:func:`remember` for a plain session."""
    ids = {file_id for file_id in file_ids(value) if len(file_id) <= _LONGEST}
    if not ids:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    at = now()
    # Sorted, so that two transactions that note the same files cannot wait for each other in a circle.
    rows = [{"telegram_id": telegram_id, "file_id": file_id, "seen_at": at} for file_id in sorted(ids)]
    session.execute(insert(SeenFile).values(rows).on_conflict_do_nothing())


async def seen(session: AsyncSession, telegram_id: int, ids: set[str]) -> set[str]:
    """Those of the ids that appeared in the person's chat."""
    query = select(SeenFile.file_id).where(SeenFile.telegram_id == telegram_id, SeenFile.file_id.in_(ids))
    return set((await session.scalars(query)).all())


def _walk(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found = item.get("file_id")
            # Telegram's are plain ASCII; what is not, a database may refuse.
            if isinstance(found, str) and found.isascii() and found.isprintable():
                yield found
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
