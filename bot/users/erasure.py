"""Erasure: what the database holds of a person, removed and counted."""

from __future__ import annotations

from sqlalchemy import UpdateBase, delete, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store.tables import (
    Announcement,
    InboxStatus,
    InboxUpdate,
    News,
    Onboarding,
    Recipient,
    SeenFile,
    TimelineEntry,
    User,
    UserStatus,
    Waiting,
)


async def erase(session: AsyncSession, user: User) -> list[str]:
    """Remove everything about the person but their outgoing messages and receipt; what that was, a line each.

    Updates that wait stay, with the files in them. Of somebody suspended, the Telegram id and the suspension stay.
    """
    who = user.telegram_id
    mine = InboxUpdate.telegram_id == who
    waiting = select(func.min(InboxUpdate.received_at)).where(mine, InboxUpdate.status == InboxStatus.PENDING)
    since = await session.scalar(waiting)
    files = SeenFile.seen_at < since if since is not None else true()
    # An update's number stays, so that a late repeat of it is known; it points to nobody.
    settled = update(InboxUpdate).where(mine, InboxUpdate.status != InboxStatus.PENDING)
    lines = [
        *await _count(session, settled.values(telegram_id=0, recipient=Recipient.NOBODY), "update", "in the inbox"),
        *await _count(
            session, delete(SeenFile).where(SeenFile.telegram_id == who, files), "file", "noted for this chat"
        ),
        *await _count(
            session, delete(TimelineEntry).where(TimelineEntry.telegram_id == who), "note", "of what happened"
        ),
        "the entry with name, language and time zone",
    ]
    for statement in (
        delete(Announcement).where(Announcement.telegram_id == who, Announcement.news != News.DELETED),
        delete(Waiting).where(Waiting.telegram_id == who),
    ):
        await session.execute(statement.execution_options(synchronize_session=False))
    if user.status != UserStatus.SUSPENDED:
        await session.delete(user)
        await session.flush()
        return lines
    user.first_name, user.username, user.language = "", None, None
    user.call_name, user.timezone, user.invite_code, user.last_message_at = None, None, None, None
    user.onboarding = Onboarding.NEW
    return lines


async def _count(session: AsyncSession, statement: UpdateBase, what: str, where: str) -> list[str]:
    result = await session.execute(statement.execution_options(synchronize_session=False))
    number = int(getattr(result, "rowcount", 0))
    return [f"{number:,} {what}{'s' if number > 1 else ''} {where}"] if number > 0 else []
