"""What is wished of skills for a person: by themselves, by their plan, or by an operator."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import SkillName
from bot.store import now
from bot.store.tables import SkillPolicy, SkillSource, SkillWanted, SkillWish


async def of_person(session: AsyncSession, user_id: int) -> list[SkillWish]:
    """Every wish for the person, by name; those for a skill to be absent too."""
    query = select(SkillWish).where(SkillWish.user_id == user_id)
    return list(await session.scalars(query.order_by(SkillWish.owner, SkillWish.slug)))


async def want(
    session: AsyncSession,
    user_id: int,
    name: SkillName,
    source: SkillSource,
    *,
    policy: SkillPolicy | None = None,
    version: str | None = None,
) -> SkillWish:
    """Wish for a skill; what was chosen for one that is wished for already stays where nothing else is given.

    `version` is for `PIN`, which keeps exactly that one.
    """
    wish = await _find(session, user_id, name)
    if wish is None:
        wish = SkillWish(user_id=user_id, owner=name.owner, slug=name.slug, policy=SkillPolicy.PATCH)
        session.add(wish)
    elif wish.wanted == SkillWanted.ABSENT:
        # Begun anew: what was agreed to for the one that was removed says nothing about this one.
        wish.policy, wish.version, wish.approved = SkillPolicy.PATCH, None, None
    if policy is not None:
        wish.policy, wish.version = policy, version if policy is SkillPolicy.PIN else None
    wish.wanted, wish.source, wish.asked_at = SkillWanted.PRESENT, source, now()
    await session.flush()
    return wish


async def unwant(session: AsyncSession, user_id: int, name: SkillName, source: SkillSource) -> None:
    """Wish that the person's instance does not have a skill."""
    wish = await _find(session, user_id, name)
    if wish is None:
        wish = SkillWish(user_id=user_id, owner=name.owner, slug=name.slug, policy=SkillPolicy.PATCH)
        session.add(wish)
    wish.wanted, wish.source, wish.asked_at = SkillWanted.ABSENT, source, now()
    await session.flush()


async def approve(session: AsyncSession, user_id: int, name: SkillName, version: str) -> None:
    """The person agrees to what a version newly needs."""
    wish = await _find(session, user_id, name)
    if wish is None:
        # It came with their plan, which goes on to say which versions come.
        wish = await want(session, user_id, name, SkillSource.PLAN)
    if wish.policy == SkillPolicy.PIN:
        # Who had pinned it and now wants the newer one wants that one kept.
        wish.version = version
    wish.approved, wish.asked_at = version, now()


async def _find(session: AsyncSession, user_id: int, name: SkillName) -> SkillWish | None:
    return await session.get(SkillWish, (user_id, name.owner, name.slug), with_for_update=True)
