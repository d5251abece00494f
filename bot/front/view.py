"""What the router knows of people when it decides: read for many of them in two queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BindParameter, bindparam, case, func, select
from sqlalchemy.orm import Session

from bot.front.inbox import IS_PENDING, Pending
from bot.store.tables import InboxUpdate, Instance, Recipient, User, Waiting, Wanted, Wish


@dataclass(frozen=True)
class View:
    """A person as found in the database at one look."""

    telegram_id: int
    user: User | None = None
    wish: Wish | None = None
    instance: Instance | None = None
    waiting: Waiting | None = None
    #: What is next: Zaki's own first, they never wait for an instance.
    row: Pending | None = None
    #: Something else is pending after it.
    more: bool = False

    @property
    def leaving(self) -> bool:
        """Whether the deletion of the person's data is under way."""
        return self.wish is not None and self.wish.wanted == Wanted.ABSENT


_IDS: BindParameter[list[int]] = bindparam("ids", expanding=True)
# Ids start anew at random after a week without updates; by then nothing older is pending.
_PLACE = func.row_number().over(
    partition_by=InboxUpdate.telegram_id,
    order_by=(case((InboxUpdate.recipient == Recipient.ZAKI, 0), else_=1), InboxUpdate.update_id),
)
_RANKED = select(InboxUpdate.id, _PLACE.label("place")).where(InboxUpdate.telegram_id.in_(_IDS), IS_PENDING).subquery()
_NEXT = (
    select(*(getattr(InboxUpdate, name) for name in Pending._fields))
    .join(_RANKED, _RANKED.c.id == InboxUpdate.id)
    .where(_RANKED.c.place <= 2)
    .order_by(InboxUpdate.telegram_id, _RANKED.c.place)
)
_PEOPLE = (
    select(User, Wish, Instance, Waiting)
    .outerjoin(Wish, Wish.user_id == User.id)
    .outerjoin(Instance, Instance.user_id == User.id)
    .outerjoin(Waiting, Waiting.telegram_id == User.telegram_id)
    .where(User.telegram_id.in_(_IDS))
)


def look(session: Session, telegram_ids: Sequence[int]) -> list[View]:
    """A view of each person, in their order."""
    ids = {"ids": list(telegram_ids)}
    rows: dict[int, list[Pending]] = defaultdict(list)
    for found in session.execute(_NEXT, ids):
        rows[found.telegram_id].append(Pending(*found))
    people = {found[0].telegram_id: found for found in session.execute(_PEOPLE, ids)}
    views = []
    for telegram_id in telegram_ids:
        user, wish, instance, waiting = people.get(telegram_id, (None, None, None, None))
        pending = rows[telegram_id]
        row, more = (pending[0] if pending else None), len(pending) > 1
        views.append(View(telegram_id, user, wish, instance, waiting, row, more))
    return views
