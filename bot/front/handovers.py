"""Records that instances have taken updates over: many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BindParameter, Table, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.inbox import IS_PENDING, Pending
from bot.store import now
from bot.store.tables import InboxStatus, InboxUpdate, Instance, User
from bot.timeline import Stage, note_all


@dataclass(frozen=True)
class Handover:
    """An update that an instance has taken."""

    row: Pending
    user_id: int
    instance_id: str


_INBOX: Table = InboxUpdate.__table__  # type: ignore[assignment]
_USERS: Table = User.__table__  # type: ignore[assignment]
_IDS: BindParameter[list[object]] = bindparam("ids", expanding=True)

_SETTLE = (
    update(_INBOX)
    .where(_INBOX.c.id.in_(_IDS), IS_PENDING)
    .values(status=InboxStatus.DELIVERED, settled_at=bindparam("at"), body=b"", last_error=None)
)
_TOUCH = update(_USERS).where(_USERS.c.id.in_(_IDS)).values(last_message_at=bindparam("at"))
_FENCED = select(Instance.id).where(Instance.id.in_(_IDS), Instance.fenced_at.is_not(None))


async def record(session: AsyncSession, handovers: Sequence[Handover]) -> list[bool]:
    """Mark the updates as delivered; True for each whose instance was fenced while the update was on its way."""
    at = now()
    await session.execute(_SETTLE, {"ids": [done.row.id for done in handovers], "at": at})
    await note_all(session, ((done.row.telegram_id, Stage.DELIVERED, str(done.row.update_id)) for done in handovers))
    # In order, so that two transactions that touch the same people cannot wait for each other in a circle.
    await session.execute(_TOUCH, {"ids": sorted({done.user_id for done in handovers}), "at": at})
    fenced = set(await session.scalars(_FENCED, {"ids": [done.instance_id for done in handovers]}))
    return [done.instance_id in fenced for done in handovers]
