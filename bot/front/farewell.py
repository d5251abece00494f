"""Farewell: a person's data is deleted, with a receipt of all that was removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.notices import Notice
from bot.front.outbox import BotCall, rows
from bot.front.outbox.putting import put
from bot.front.talk import escape
from bot.store.tables import User, UserStatus, Waiting
from bot.users import people, receipts

_DELETED = (
    "🧹 <b>Your assistant is deleted</b>, with its memory, its files and what was stored about you here. Removed:"
)
_ERASED = "🧹 You have no assistant here, and <b>what was stored about you is deleted</b>. Removed:"
_COUNTS = "What stays are counts of model use under a random number that points to nobody"
_SUSPENSION = "your access is suspended"
_ANEW = "Write again whenever you like to start anew."


@dataclass(frozen=True)
class Farewell:
    """What is gone, and what is left to do."""

    #: What was removed, a line each.
    removed: Sequence[str]
    #: Spooled files to remove once the transaction is committed.
    files: Sequence[Path]
    #: What the person is told, as Telegram's HTML; None: an operator asked for the deletion, and gets the receipt.
    goodbye: str | None


async def begin(session: AsyncSession, user: User, spool: Path) -> Farewell | None:
    """Begin the deletion of a person's data, in the caller's transaction.

    None: it goes on once their instance is gone, with :func:`end`. Of somebody without one everything goes at once.
    """
    telegram_id, suspended = user.telegram_id, user.status == UserStatus.SUSPENDED
    await take_notice_back(session, telegram_id, spool)
    removed = await people.leave(session, user)
    if removed is None:
        return None
    kept = f"What stays is that {_SUSPENSION}." if suspended else _ANEW
    return await _part(session, telegram_id, spool, removed, _ERASED, kept)


async def take_notice_back(session: AsyncSession, telegram_id: int, spool: Path) -> None:
    """Take back the message that says that their assistant comes, in the caller's transaction."""
    waiting = await session.get(Waiting, telegram_id, with_for_update=True)
    if waiting is None:
        return
    if waiting.outbox_id is not None and waiting.shown != Notice.LOST:
        params = {"chat_id": telegram_id, "message_id": {"outbox": waiting.outbox_id}}
        await put(session, BotCall("deleteMessage", params, telegram_id), spool)
    await session.delete(waiting)


async def end(session: AsyncSession, user: User, spool: Path) -> Farewell | None:
    """Remove all that is left of a person who is leaving, in the caller's transaction.

    None: their instance still exists, or they are not leaving.
    """
    telegram_id, suspended = user.telegram_id, user.status == UserStatus.SUSPENDED
    removed = await people.forget(session, user)
    if removed is None:
        return None
    kept = f"{_COUNTS}, and that {_SUSPENSION}." if suspended else f"{_COUNTS}. {_ANEW}"
    return await _part(session, telegram_id, spool, removed, _DELETED, kept)


async def _part(
    session: AsyncSession, telegram_id: int, spool: Path, removed: Sequence[str], words: str, kept: str
) -> Farewell:
    said = await rows.forget(session, telegram_id, spool)
    removed = [*removed, *said.lines]
    goodbye = None
    if not await receipts.hand_over(session, telegram_id, removed):
        listed = "\n".join(f"• {escape(line)}" for line in removed)
        goodbye = f"{words}\n\n{listed}\n\n{kept}"
    return Farewell(removed, said.files, goodbye)
