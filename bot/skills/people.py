"""What people chose about skills, apart from the skills themselves."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store.database import now
from bot.store.tables import Onboarding, SkillInterest, SkillPerson, TimelineEntry, User
from bot.timeline import Stage

#: Seconds after the first reply: it may still be growing.
_OFFER_AFTER = 8.0


async def chosen(session: AsyncSession, telegram_id: int) -> SkillPerson:
    """Their row, made where there is none; a person who has one is not offered sets any more."""
    row = await session.get(SkillPerson, telegram_id, with_for_update=True)
    if row is None:
        row = SkillPerson(telegram_id=telegram_id, offer_at=None, from_messages=False)
        session.add(row)
        await session.flush()
    return row


async def offer_after_reply(session: AsyncSession, telegram_id: int) -> None:
    """Their instance replied: whoever has answered our questions is offered sets of skills soon, once."""
    query = (
        select(User.onboarding, SkillPerson.telegram_id)
        .outerjoin(SkillPerson, SkillPerson.telegram_id == User.telegram_id)
        .where(User.telegram_id == telegram_id)
    )
    found = (await session.execute(query)).one_or_none()
    if found is not None and found[0] == Onboarding.DONE and found[1] is None:
        await _offer(session, telegram_id)


async def offer_after_questions(session: AsyncSession, telegram_id: int) -> None:
    """They have answered our questions: if their instance has replied by now, they are offered sets soon, once."""
    replied = select(TimelineEntry.id).where(
        TimelineEntry.telegram_id == telegram_id, TimelineEntry.stage == Stage.REPLIED
    )
    if await session.get(SkillPerson, telegram_id) is None and await session.scalar(replied.limit(1)) is not None:
        await _offer(session, telegram_id)


async def look_at_messages(session: AsyncSession, telegram_id: int, allowed: bool) -> None:
    """Let suggestions be made from what they write, or no longer, which also forgets what was noted."""
    (await chosen(session, telegram_id)).from_messages = allowed
    if not allowed:
        await session.execute(delete(SkillInterest).where(SkillInterest.telegram_id == telegram_id))


async def _offer(session: AsyncSession, telegram_id: int) -> None:
    (await chosen(session, telegram_id)).offer_at = now() + _OFFER_AFTER
