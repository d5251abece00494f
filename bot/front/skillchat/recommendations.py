"""What a person may like: from the skills that they have, and from what they write only if they said so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import distinct, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bot.front.skills.standing import unwanted
from bot.skills import holdings
from bot.skills.holdings import Holding
from bot.skills.names import SkillName
from bot.skills.sets import SkillSets
from bot.store import now
from bot.store.tables import SkillInterest, SkillLock, SkillPerson

#: How many at most.
_MOST = 6
#: Others that must have a skill beside one of the person's before it is suggested: no single one shows through.
_OTHERS = 5
#: Seconds for which a need that somebody wrote about counts.
_LATELY = 30 * 24 * 3600.0


@dataclass(frozen=True)
class Recommendation:
    """One of them."""

    name: SkillName
    title: str
    #: The end of a sentence, such as “because you have Notion”.
    because: str


async def recommend(
    session: AsyncSession, telegram_id: int, having: Sequence[Holding], sets: SkillSets
) -> list[Recommendation]:
    """What this person may like, the nearest first; nothing that they have, or that may not be installed."""
    had = {one.name: one.title for one in having}
    reasons: dict[SkillName, str] = {}
    for need in sets.needs:
        mine = next((had[skill.name] for skill in need.skills if skill.name in had), None)
        if mine is not None:
            for skill in need.skills:
                reasons.setdefault(skill.name, f"because you have {mine} and it is for {_small(need.title)} too")
    for name, beside, others in await _beside(session, had.keys()):
        reasons.setdefault(name, f"because you have {had[beside]}, and {others} others who do have it")
    for key in await _written_about(session, telegram_id):
        wanted = sets.need(key)
        if wanted is not None:
            for skill in wanted.skills:
                reasons.setdefault(skill.name, f"because you wrote about {_small(wanted.title)}")
    never = await unwanted(session, reasons)
    names = [name for name in reasons if name not in had and name not in never][:_MOST]
    titles = await holdings.titles_of(session, set(names))
    return [Recommendation(name, titles[name], reasons[name]) for name in names]


async def _beside(session: AsyncSession, had: Collection[SkillName]) -> list[tuple[SkillName, SkillName, int]]:
    """Skills that many have who have one of these too: which, beside which, and how many."""
    found: dict[SkillName, tuple[SkillName, int]] = {}
    for name in had:
        theirs, others = aliased(SkillLock), aliased(SkillLock)
        count = func.count(distinct(others.instance_id))
        query = (
            select(others.owner, others.slug, count)
            .join(theirs, theirs.instance_id == others.instance_id)
            .where(theirs.owner == name.owner, theirs.slug == name.slug)
            .group_by(others.owner, others.slug)
            .having(count >= _OTHERS)
            .order_by(count.desc())
            .limit(_MOST)
        )
        for owner, slug, number in await session.execute(query):
            other = SkillName(owner, slug)
            if other not in had and number > found.get(other, (name, 0))[1]:
                found[other] = (name, number)
    return sorted(((name, mine, number) for name, (mine, number) in found.items()), key=lambda one: -one[2])


async def _written_about(session: AsyncSession, telegram_id: int) -> list[str]:
    person = await session.get(SkillPerson, telegram_id)
    if person is None or not person.from_messages:
        return []
    query = select(SkillInterest.need).where(
        SkillInterest.telegram_id == telegram_id, SkillInterest.last_at > now() - _LATELY
    )
    return list(await session.scalars(query.order_by(SkillInterest.last_at.desc())))


def _small(title: str) -> str:
    return title[:1].lower() + title[1:]
