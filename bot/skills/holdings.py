"""What a person's instance has of skills, is about to have, or is about to lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills import locks, wishes
from bot.skills.names import SkillName
from bot.store.tables import (
    Instance,
    Skill,
    SkillLock,
    SkillOrigin,
    SkillPolicy,
    SkillState,
    SkillStatus,
    SkillWanted,
    SkillWish,
)


@dataclass(frozen=True)
class Holding:
    """A skill of one person's, as wish, findings and locks tell it together."""

    name: SkillName
    title: str
    #: The version that is there; None: none yet.
    version: str | None
    #: None: the provisioner has not looked at it yet.
    status: SkillStatus | None
    #: Whether it should be there.
    wanted: bool
    policy: SkillPolicy = SkillPolicy.PATCH
    #: Who asked for it; None: nobody did, the assistant got it itself.
    source: str | None = None
    #: The version that waits for the person, and what it newly needs, by kind.
    offered: str | None = None
    asks: Mapping[str, Any] = field(default_factory=dict)
    #: One sentence where something is wrong.
    detail: str = ""
    #: It is being taken back.
    recalled: bool = False


async def of_person(session: AsyncSession, user_id: int) -> list[Holding]:
    """All of them, by title."""
    instance_id = await session.scalar(select(Instance.id).where(Instance.user_id == user_id))
    wished = {_name(wish): wish for wish in await wishes.of_person(session, user_id)}
    states: dict[SkillName, SkillState] = {}
    held: dict[SkillName, SkillLock] = {}
    if instance_id is not None:
        found = await session.scalars(select(SkillState).where(SkillState.instance_id == instance_id))
        states = {_name(state): state for state in found}
        for lock in await locks.of_instance(session, instance_id):
            # Of several the one that was seen there counts, not one that was only downloaded.
            if lock.origin == SkillOrigin.INSTALL or _name(lock) not in held:
                held[_name(lock)] = lock
    names = {*states, *held, *(name for name, wish in wished.items() if wish.wanted == SkillWanted.PRESENT)}
    titles = await titles_of(session, names)
    holdings = [_holding(name, titles[name], wished.get(name), states.get(name), held.get(name)) for name in names]
    return sorted(holdings, key=lambda one: (one.title.casefold(), one.name))


async def titles_of(session: AsyncSession, names: set[SkillName]) -> dict[SkillName, str]:
    """What people call them; their own names where the registry was never asked."""
    query = select(Skill).where(Skill.slug.in_({name.slug for name in names}))
    known = {_name(skill): skill.display_name for skill in await session.scalars(query)}
    return {name: known.get(name) or name.slug for name in names}


def _holding(
    name: SkillName, title: str, wish: SkillWish | None, state: SkillState | None, lock: SkillLock | None
) -> Holding:
    version = state.version if state is not None else (lock.version if lock is not None else None)
    return Holding(
        name=name,
        title=title,
        version=version,
        status=SkillStatus(state.state) if state is not None else None,
        wanted=wish is None or wish.wanted == SkillWanted.PRESENT,
        policy=SkillPolicy(wish.policy) if wish is not None else SkillPolicy.PATCH,
        source=wish.source if wish is not None else None,
        offered=state.offered if state is not None else None,
        asks=(state.asks or {}) if state is not None else {},
        detail=state.detail if state is not None else "",
        recalled=lock is not None and lock.remove_since is not None,
    )


def _name(row: SkillWish | SkillState | SkillLock | Skill) -> SkillName:
    return SkillName(row.owner, row.slug)
