"""Calls put into the outbox, in the caller's transaction; what they change of calls that still wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.outbox.answers import DONE, gone
from bot.front.outbox.calls import DELETES, EDITS, BotCall, makes_messages, number_of, row_of, with_numbers
from bot.front.outbox.merging import merged_edit
from bot.front.outbox.rows import OPEN
from bot.front.outbox.spool import note_of, upload_of
from bot.store.database import now
from bot.store.tables import OutboxMessage, OutboxStatus


@dataclass(frozen=True)
class Queued:
    """What became of a call that was put in."""

    row: int
    #: None: it waits for Telegram; else the answer, for Telegram need not be asked.
    answer: dict[str, Any] | None = None
    #: Spooled files that nobody wants any more once the transaction is committed.
    dropped: Sequence[Path] = ()


async def put(session: AsyncSession, call: BotCall, spool: Path) -> Queued:
    """Put a call in; an edit or a deletion of what still waits changes that instead."""
    params = with_numbers(call.params)
    target: int | None = None
    if call.method in EDITS or call.method == "deleteMessage":
        target = number_of(params.get("message_id"))
    if call.method in EDITS and target is not None:
        merged = await _merge(session, call, params, target)
        if merged is not None:
            return merged
    dropped: list[Path] = []
    if call.method in DELETES:
        settled = await _drop(session, call, params, spool, dropped)
        if settled is not None:
            return Queued(settled, DONE, dropped)
    row = OutboxMessage(
        instance_id=call.instance_id,
        chat_id=call.chat_id,
        method=call.method,
        params=params,
        files=[note_of(file) for file in call.files] or None,
        message_id=target,
        created_at=now(),
    )
    session.add(row)
    await session.flush()
    return Queued(row.id, dropped=dropped)


async def _merge(session: AsyncSession, call: BotCall, params: dict[str, Any], target: int) -> Queued | None:
    """Change what still waits: the message itself, or the latest edit of it."""
    latest = await session.scalar(
        select(OutboxMessage)
        .where(OutboxMessage.chat_id == call.chat_id, OPEN, OutboxMessage.message_id == target)
        .order_by(OutboxMessage.id.desc())
        .limit(1)
        .with_for_update()
    )
    if latest is not None:
        if latest.method != call.method or latest.status != OutboxStatus.PENDING or latest.files or call.files:
            return None
        latest.params = params
        return Queued(latest.id)
    place = row_of(target)
    if place is None:
        return None
    row = await session.get(OutboxMessage, place[0], with_for_update=True)
    if row is None or row.chat_id != call.chat_id or not makes_messages(row.method):
        return Queued(place[0], gone(call.method))
    if row.status == OutboxStatus.FAILED:
        return Queued(row.id, gone(call.method))
    changed = merged_edit(row.method, row.params, call.method, params) if row.status == OutboxStatus.PENDING else None
    if changed is None:
        return None
    row.params = changed
    return Queued(row.id)


async def _drop(
    session: AsyncSession, call: BotCall, params: dict[str, Any], spool: Path, dropped: list[Path]
) -> int | None:
    """Take back what still waits of the messages to delete; the row that stood for it where nothing else is left."""
    given = params.get("message_ids") if call.method == "deleteMessages" else [params.get("message_id")]
    left: list[Any] = []
    settled: int | None = None
    for value in given if isinstance(given, list) else []:
        message_id = number_of(value)
        place = row_of(message_id) if message_id is not None else None
        row = await session.get(OutboxMessage, place[0], with_for_update=True) if place else None
        if row is None or row.chat_id != call.chat_id or row.status != OutboxStatus.PENDING:
            left.append(value)
            continue
        _end(row, spool, dropped)
        settled = row.id
    for value in given if isinstance(given, list) else []:
        waiting = await session.scalars(
            select(OutboxMessage)
            .where(
                OutboxMessage.chat_id == call.chat_id,
                OPEN,
                OutboxMessage.message_id == number_of(value),
                OutboxMessage.status == OutboxStatus.PENDING,
                OutboxMessage.method.in_(EDITS),
            )
            .with_for_update()
        )
        for row in waiting:
            _end(row, spool, dropped)
    if call.method == "deleteMessages":
        params["message_ids"] = left
    return settled if not left else None


def _end(row: OutboxMessage, spool: Path, dropped: list[Path]) -> None:
    row.status = OutboxStatus.FAILED
    row.last_error = "Deleted before it was sent."
    row.response = gone(row.method)
    row.finished_at = now()
    dropped.extend(upload_of(file, spool).path for file in row.files or ())
    row.params, row.files = {}, None
