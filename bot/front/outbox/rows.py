"""The outbox's rows: looked for, taken for sending, settled. Each function works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Text, cast, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import seen_files
from bot.front.outbox.answers import gone, refusal
from bot.front.outbox.calls import (
    makes_messages,
    map_message_ids,
    message_ids,
    number_of,
    provisional_id,
    row_of,
)
from bot.front.outbox.spool import upload_of
from bot.front.telegram import Upload
from bot.store.database import now
from bot.store.tables import OutboxMessage, OutboxStatus, User

#: How often a message may be sent whose earlier sending was cut off.
_MOST_SENDINGS = 4
#: Seconds that finished rows are kept; those whose provisional ids are out in the world, longer.
_KEPT = 48 * 3600.0
_KEPT_PROVISIONAL = 30 * 86400.0

#: What waits for Telegram.
OPEN = OutboxMessage.finished_at.is_(None)

# One step of the index for each chat, however many rows it has.
_CHATS = text(
    "WITH RECURSIVE chats (chat_id) AS ("
    " SELECT MIN(chat_id) FROM outbox WHERE finished_at IS NULL"
    " UNION ALL"
    " SELECT (SELECT MIN(chat_id) FROM outbox WHERE finished_at IS NULL AND chat_id > chats.chat_id)"
    " FROM chats WHERE chats.chat_id IS NOT NULL"
    ") SELECT chat_id FROM chats WHERE chat_id IS NOT NULL"
)


@dataclass(frozen=True)
class Taken:
    """A row that is about to be sent."""

    row: int
    method: str
    params: dict[str, Any]
    instance_id: str | None
    files: Sequence[Upload]
    #: It may have been sent before: a repeat says so.
    in_doubt: bool
    created_at: float
    #: Not None: it cannot be sent; the answer says why.
    answer: dict[str, Any] | None


@dataclass(frozen=True)
class Forgotten:
    """What was removed of a chat."""

    messages: int
    #: Spooled files to remove once that is committed.
    files: Sequence[Path]

    @property
    def lines(self) -> list[str]:
        """The lines of a receipt."""
        counted = (len(self.files), "file", "to be sent"), (self.messages, "outgoing message", "")
        return [
            f"{number:,} {what}{'s' if number > 1 else ''} {rest}".strip() for number, what, rest in counted if number
        ]


async def open_chats(session: AsyncSession) -> list[int]:
    """The chats that have something to send."""
    return [int(chat) for chat in (await session.scalars(_CHATS)).all()]


async def waiting_in(session: AsyncSession, chat_id: int, most: int) -> tuple[int, int]:
    """How many calls wait for a chat, counted up to `most`, and the characters of their parameters."""
    size = func.length(cast(OutboxMessage.params, Text)).label("size")
    waiting = select(size).where(OutboxMessage.chat_id == chat_id, OPEN).limit(most).subquery()
    row = (await session.execute(select(func.count(), func.coalesce(func.sum(waiting.c.size), 0)))).one()
    return int(row[0]), int(row[1])


async def spooled(session: AsyncSession) -> set[str]:
    """Names of the files that waiting calls want."""
    rows = await session.scalars(select(OutboxMessage.files).where(OPEN, OutboxMessage.files.is_not(None)))
    return {str(file["path"]) for files in rows for file in files or ()}


async def next_method(session: AsyncSession, chat_id: int) -> str | None:
    """What the chat's next call is; None: there is none."""
    query = select(OutboxMessage.method).where(OutboxMessage.chat_id == chat_id, OPEN).order_by(OutboxMessage.id)
    return await session.scalar(query.limit(1))


async def take(session: AsyncSession, chat_id: int, spool: Path) -> Taken | None:
    """The chat's next call, marked as being sent; None: there is none."""
    query = select(OutboxMessage).where(OutboxMessage.chat_id == chat_id, OPEN).order_by(OutboxMessage.id).limit(1)
    row = await session.scalar(query.with_for_update())
    if row is None:
        return None
    cut_off = row.status in (OutboxStatus.SENDING, OutboxStatus.UNCERTAIN)
    in_doubt = cut_off and makes_messages(row.method)
    params, answer = await _with_real_ids(session, chat_id, row.method, row.params)
    if answer is None and in_doubt and row.attempts >= _MOST_SENDINGS:
        answer = refusal(400, "Bad Request: the message was cut off in flight too often; it may have been shown")
    row.status = OutboxStatus.UNCERTAIN if in_doubt else OutboxStatus.SENDING
    row.attempts += 1
    files = [upload_of(file, spool) for file in row.files or ()]
    return Taken(row.id, row.method, params, row.instance_id, files, in_doubt, row.created_at, answer)


async def put_back(session: AsyncSession, taken: Taken, error: str, *, in_doubt: bool) -> None:
    """Telegram has not taken it; `in_doubt`: perhaps it has."""
    row = await session.get(OutboxMessage, taken.row)
    if row is None:
        return
    row.last_error = error
    if in_doubt:
        row.status = OutboxStatus.UNCERTAIN if makes_messages(taken.method) else OutboxStatus.PENDING
    else:
        row.status = OutboxStatus.UNCERTAIN if taken.in_doubt else OutboxStatus.PENDING
        row.attempts -= 1


async def change(session: AsyncSession, taken: Taken, params: dict[str, Any]) -> None:
    """Send it in other words; what was put in before is not said again."""
    row = await session.get(OutboxMessage, taken.row)
    if row is not None:
        row.params = params


async def settle(session: AsyncSession, taken: Taken, chat_id: int, answer: Mapping[str, Any]) -> None:
    """Keep what Telegram answered, which ends the row."""
    row = await session.get(OutboxMessage, taken.row)
    if row is None:
        return
    known = await session.scalar(select(User.id).where(User.telegram_id == chat_id)) is not None
    row.finished_at = now()
    row.params, row.files = {}, None
    if not known:
        # Somebody who has left, or was never here: that something was sent is kept, to whom is not.
        row.chat_id, row.instance_id = 0, None
    if not answer.get("ok"):
        row.status = OutboxStatus.FAILED
        row.response = dict(answer)
        row.last_error = str(answer.get("description", ""))
        return
    row.status = OutboxStatus.UNCERTAIN if taken.in_doubt else OutboxStatus.SENT
    row.last_error = None
    if makes_messages(taken.method):
        made = message_ids(answer)
        row.response = {"ok": True, "result": [{"message_id": message_id} for message_id in made]}
        row.message_id = next(iter(made), None)
    if known and taken.instance_id is not None:
        await seen_files.remember(session, chat_id, answer.get("result"))


async def of_instance(session: AsyncSession, row_id: int, instance_id: str | None) -> OutboxMessage | None:
    """The instance's row; None where it is not there, or somebody else's."""
    row = await session.get(OutboxMessage, row_id)
    return row if row is not None and row.instance_id == instance_id else None


async def real_id(session: AsyncSession, chat_id: int, message_id: int) -> int | None:
    """Telegram's id for one that may be provisional; None where it has none (not sent yet, or never)."""
    place = row_of(message_id)
    if place is None:
        return message_id
    row = await session.get(OutboxMessage, place[0])
    if row is None or row.chat_id != chat_id:
        return None
    ids = message_ids(row.response) if makes_messages(row.method) else []
    return ids[place[1]] if place[1] < len(ids) else None


async def tell_provisional(session: AsyncSession, row_id: int) -> bool:
    """Note that the sender is told a provisional id; False: no need, as the row is finished."""
    row = await session.get(OutboxMessage, row_id, with_for_update=True)
    if row is None or row.finished_at is not None:
        return False
    if makes_messages(row.method):
        row.provisional_id = provisional_id(row.id)
    return True


async def forget(session: AsyncSession, chat_id: int, spool: Path) -> Forgotten:
    """Remove what was said in a chat and what its instance has not begun to say.

    What Zaki itself has still to say stays, and so does a message that is being sent.
    """
    waiting = OutboxMessage.instance_id.is_not(None) & (OutboxMessage.status == OutboxStatus.PENDING)
    removed = await session.scalars(
        delete(OutboxMessage)
        .where(OutboxMessage.chat_id == chat_id, OutboxMessage.finished_at.is_not(None) | waiting)
        .returning(OutboxMessage.files)
        .execution_options(synchronize_session=False)
    )
    notes = removed.all()
    return Forgotten(len(notes), [upload_of(file, spool).path for files in notes for file in files or ()])


async def prune(session: AsyncSession) -> None:
    """Forget what was finished long ago."""
    for kept, condition in (
        (_KEPT, OutboxMessage.provisional_id.is_(None)),
        (_KEPT_PROVISIONAL, OutboxMessage.provisional_id.is_not(None)),
    ):
        await session.execute(delete(OutboxMessage).where(OutboxMessage.finished_at < now() - kept, condition))


async def _with_real_ids(
    session: AsyncSession, chat_id: int, method: str, params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Params with Telegram's ids alone, and a refusal where the message that they are about was never sent."""
    found: dict[int, int | None] = {}

    def note(value: Any) -> Any:
        number = number_of(value)
        if number is not None and row_of(number) is not None:
            found[number] = None
        return value

    map_message_ids(params, note)
    if not found:
        return dict(params), None
    for number in found:
        found[number] = await real_id(session, chat_id, number)
    known = map_message_ids(params, lambda value: found.get(number_of(value) or 0, value))
    lost = ("message_id" in params and "message_id" not in known) or known.get("message_ids") == []
    return known, gone(method) if lost else None
