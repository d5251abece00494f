"""What an answer of Telegram means beyond the message itself: a first reply, somebody who blocked the bot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import metrics
from bot.store.database import now
from bot.store.tables import TimelineEntry, UserStatus, Wanted, Wish
from bot.timeline import Stage, note
from bot.users import people


async def note_reply(session: AsyncSession, telegram_id: int) -> None:
    """Note in the timeline that the instance replied, once after each delivery."""
    mine = TimelineEntry.telegram_id == telegram_id
    latest = await session.scalar(
        select(TimelineEntry)
        .where(mine, TimelineEntry.stage.in_((Stage.DELIVERED, Stage.REPLIED)))
        .order_by(TimelineEntry.id.desc())
        .limit(1)
    )
    if latest is None or latest.stage != Stage.DELIVERED:
        return
    note(session, telegram_id, Stage.REPLIED)
    replied = select(func.max(TimelineEntry.id)).where(mine, TimelineEntry.stage == Stage.REPLIED).scalar_subquery()
    received = await session.scalar(
        select(func.min(TimelineEntry.at)).where(
            mine, TimelineEntry.stage == Stage.RECEIVED, TimelineEntry.id > func.coalesce(replied, 0)
        )
    )
    if received is not None:
        metrics.FIRST_REPLY_SECONDS.observe(max(0.0, now() - received))


def is_blocked(answer: Mapping[str, Any]) -> bool:
    """Whether Telegram says that the person wants nothing more from the bot."""
    description = str(answer.get("description", ""))
    return answer.get("error_code") == 403 and ("blocked" in description or "deactivated" in description)


async def note_blocked(session: AsyncSession, telegram_id: int) -> None:
    """Remember that the person blocked the bot or left Telegram, and stop their instance; their next message ends that.

    An instance that could still work would spend the model's tokens for somebody who sees nothing of it.
    """
    user = await people.find(session, telegram_id)
    if user is None or user.status not in (UserStatus.ACTIVE, UserStatus.BLOCKED):
        return
    user.status = UserStatus.BLOCKED
    present = await session.get(Wish, user.id)
    if present is not None and present.wanted == Wanted.AWAKE:
        await people.wish(session, user, Wanted.STOPPED)
