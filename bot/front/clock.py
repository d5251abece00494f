"""The machine's clock, which is set now and then: nobody's message waits, or is given up, for the size of the step."""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.inbox import DATABASE_ERRORS, IS_PENDING, reason
from bot.store import Database, now
from bot.store.tables import InboxUpdate, OutboxMessage, Waiting, Wish
from bot.users.plans import PLANS

_log = structlog.get_logger(__name__)

#: Seconds between two looks, and of a step that matters.
_EVERY = 1.0
_STEP = 5.0


class ClockWatch:
    """Sees that the clock was set, and has whatever waits go by the new time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead = _ahead()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        checked = False
        while True:
            try:
                if not checked:
                    # It may have been put back while nobody watched.
                    async with self._database.write() as session:
                        await put_back(session)
                    checked = True
                await self.follow()
            except DATABASE_ERRORS as error:
                if self._database.trouble.reason is None:
                    _log.error("what waits cannot follow the clock; it is tried again", reason=reason(error))
            await asyncio.sleep(_EVERY)

    async def follow(self) -> bool:
        """Whether the clock was set since the last look; what waits goes by the new time now."""
        async with self._turn:
            ahead = _ahead()
            step = ahead - self._ahead
            was_set = abs(step) >= _STEP
            if was_set:
                async with self._database.write() as session:
                    await (put_forward(session, step) if step > 0 else put_back(session))
                _log.warning("the clock was set, and what waits follows it", seconds=round(step))
            self._ahead = ahead
            return was_set


async def put_forward(session: AsyncSession, step: float) -> None:
    """The clock was put forward by so many seconds: what was written down before it has become no older by that."""
    before = now() - step / 2
    for statement in (
        update(InboxUpdate)
        .where(IS_PENDING, InboxUpdate.received_at < before)
        .values(received_at=InboxUpdate.received_at + step, expires_at=InboxUpdate.expires_at + step),
        update(Waiting).where(Waiting.since < before).values(since=Waiting.since + step),
        update(Wish)
        .where(Wish.asked_at < before)
        .values(asked_at=Wish.asked_at + step, awake_until=Wish.awake_until + step),
        update(OutboxMessage)
        .where(OutboxMessage.finished_at.is_(None), OutboxMessage.created_at < before)
        .values(created_at=OutboxMessage.created_at + step),
    ):
        await session.execute(statement.execution_options(synchronize_session=False))


async def put_back(session: AsyncSession) -> None:
    """The clock was put back: what was written down in what is the future now happened just now."""
    at = now()
    furthest = at + max(plan.keep_awake for plan in PLANS.values())
    for statement in (
        update(InboxUpdate)
        .where(IS_PENDING, InboxUpdate.received_at > at)
        .values(received_at=at, expires_at=at + InboxUpdate.expires_at - InboxUpdate.received_at),
        update(Waiting).where(Waiting.since > at).values(since=at),
        update(Wish).where(Wish.asked_at > at).values(asked_at=at),
        update(Wish).where(Wish.awake_until > furthest).values(awake_until=furthest),
    ):
        await session.execute(statement.execution_options(synchronize_session=False))


def _ahead() -> float:
    """Seconds by which the clock is ahead of the time since the machine's start, which nobody sets."""
    return time.time() - time.monotonic()
