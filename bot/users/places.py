"""Places: how many people may have an instance, counted by single conditional UPDATEs."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store.tables import Counter

_ADMITTED = "admitted"


async def take(session: AsyncSession, cap: int) -> bool:
    """Take one of `cap` places; False where all are taken."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    await session.execute(insert(Counter).values(name=_ADMITTED, value=0).on_conflict_do_nothing())
    return await _add(session, 1, Counter.value < cap)


async def give_back(session: AsyncSession) -> None:
    """Free a place."""
    await _add(session, -1, Counter.value > 0)


async def taken(session: AsyncSession) -> int:
    """How many places are taken."""
    return await session.scalar(select(Counter.value).where(Counter.name == _ADMITTED)) or 0


async def _add(session: AsyncSession, number: int, condition: object) -> bool:
    changed = await session.scalars(
        update(Counter)
        .where(Counter.name == _ADMITTED, condition)  # type: ignore[arg-type]
        .values(value=Counter.value + number)
        .returning(Counter.value)
        .execution_options(synchronize_session=False)
    )
    return changed.one_or_none() is not None
