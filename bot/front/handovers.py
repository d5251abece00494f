"""Records that instances have taken updates over: many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BindParameter, Table, bindparam, select, update
from sqlalchemy.orm import Session

from bot.front.inbox import IS_PENDING, Pending
from bot.store import now
from bot.store.tables import InboxStatus, InboxUpdate, Instance, User, Wanted, Wish
from bot.timeline import Stage, note_all

#: Seconds: when somebody wrote last is kept to within so much, so that not each message writes it anew.
_TOUCH_EVERY = 30.0


@dataclass(frozen=True)
class Handover:
    """An update that an instance has taken."""

    row: Pending
    user: User


_INBOX: Table = InboxUpdate.__table__  # type: ignore[assignment]
_USERS: Table = User.__table__  # type: ignore[assignment]
_WISHES: Table = Wish.__table__  # type: ignore[assignment]
_IDS: BindParameter[list[object]] = bindparam("ids", expanding=True)

_SETTLE = (
    update(_INBOX)
    .where(_INBOX.c.id.in_(_IDS), IS_PENDING)
    .values(status=InboxStatus.DELIVERED, settled_at=bindparam("at"), body=b"", last_error=None)
)
_FENCED = select(Instance.user_id).where(Instance.user_id.in_(_IDS), Instance.fenced_at.is_not(None))
_ASK_AGAIN = (
    update(_WISHES)
    .where(_WISHES.c.user_id.in_(_IDS), _WISHES.c.wanted == Wanted.AWAKE)
    .values(generation=_WISHES.c.generation + 1, asked_at=bindparam("at"))
)
_TOUCH = update(_USERS).where(_USERS.c.id.in_(_IDS)).values(last_message_at=bindparam("at"))


def record(session: Session, handovers: Sequence[Handover]) -> list[bool]:
    """Mark the updates as delivered; True for each whose instance was fenced while the update was on its way.

    Such an update may be asleep now with the instance, so it is asked for again.
    """
    at = now()
    session.execute(_SETTLE, {"ids": [done.row.id for done in handovers], "at": at})
    note_all(session, ((done.row.telegram_id, Stage.DELIVERED, str(done.row.update_id)) for done in handovers))
    stale = {done.user.id for done in handovers if abs(at - (done.user.last_message_at or 0.0)) > _TOUCH_EVERY}
    if stale:
        # In order, so that two transactions that touch the same people cannot wait for each other in a circle.
        session.execute(_TOUCH, {"ids": sorted(stale), "at": at})
    owners = sorted({done.user.id for done in handovers})
    fenced = sorted(user_id for user_id in session.scalars(_FENCED, {"ids": owners}) if user_id is not None)
    if fenced:
        session.execute(_ASK_AGAIN, {"ids": fenced, "at": at})
    return [done.user.id in fenced for done in handovers]
