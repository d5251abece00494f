"""Short keys for skills and versions: the data of a button has no room for their names."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import Reference, SkillName
from bot.store.tables import Skill, SkillVerdict, SkillVersion

_SKILL = 14
_VERSION = 8


def skill_key(name: SkillName) -> str:
    """84 bits of the name's hash: nobody finds another name with the same."""
    return _short(str(name), _SKILL)


def version_key(name: SkillName, version: str) -> str:
    """Tells the versions of one skill apart."""
    return _short(str(Reference(name, version)), _VERSION)


def versions_key(shown: Iterable[Reference]) -> str:
    """Tells what was shown of several skills from what there is by now."""
    return _short(" ".join(sorted(map(str, shown))), _VERSION)


async def version_of(session: AsyncSession, name: SkillName, key: str) -> str | None:
    """The version that a button was made for; None where it may not be installed any more."""
    passed = select(SkillVersion.version).where(
        SkillVersion.owner == name.owner,
        SkillVersion.slug == name.slug,
        SkillVersion.verdict == SkillVerdict.PASSED,
    )
    return next((each for each in await session.scalars(passed) if version_key(name, each) == key), None)


async def skill_of(session: AsyncSession, key: str, likely: Iterable[SkillName]) -> SkillName | None:
    """The skill that a button was made for: one of the likely ones, or one that the mirror has heard of."""
    for name in likely:
        if skill_key(name) == key:
            return name
    # Thousands at most, and names alone.
    for owner, slug in await session.execute(select(Skill.owner, Skill.slug)):
        if skill_key(SkillName(owner, slug)) == key:
            return SkillName(owner, slug)
    return None


def _short(text: str, length: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()[:length]
