"""Keeps the latest decisions about an instance, for whoever asks why it does what it does."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.provisioner.decision import Action
from bot.store import now
from bot.store.tables import Decision as DecisionRow

#: Decisions that are kept of an instance.
KEPT = 20


async def note(session: AsyncSession, instance_id: str, action: str, reason: str) -> None:
    """Note a decision in the caller's transaction; of looks after which nothing was done only the last is kept."""
    newest = select(DecisionRow).where(DecisionRow.instance_id == instance_id).order_by(DecisionRow.id.desc()).limit(1)
    last = (await session.scalars(newest)).one_or_none()
    at = now()
    if last is not None and last.action == action and (last.reason == reason or action == Action.NOTHING):
        last.at, last.reason = at, reason
        last.times += 1
        return
    session.add(DecisionRow(instance_id=instance_id, first_at=at, at=at, times=1, action=action, reason=reason))
    await session.flush()
    kept = (
        select(DecisionRow.id).where(DecisionRow.instance_id == instance_id).order_by(DecisionRow.id.desc()).limit(KEPT)
    )
    await session.execute(
        delete(DecisionRow).where(DecisionRow.instance_id == instance_id, DecisionRow.id.not_in(kept)),
        execution_options={"synchronize_session": False},
    )
