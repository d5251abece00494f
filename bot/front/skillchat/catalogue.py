"""Skills to choose from: ClawHub's search through the mirror, and only what passed vetting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.front.skills import Mirror
from bot.front.skills.errors import SkillError
from bot.front.skills.listing import Listing
from bot.skills.names import BadName, SkillName, skill_name
from bot.store.tables import Skill, SkillVersion

#: Results that are shown, and looked at so that as many pass.
_SHOWN = 5
_LOOKED_AT = 8
#: Seconds for fetching and vetting what nobody asked for before; what takes longer goes on, for the next who asks.
_WITHIN = 25.0
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


@dataclass(frozen=True)
class Offer:
    """A skill that may be installed."""

    name: SkillName
    title: str
    summary: str
    version: str
    #: Lists of words by kind.
    needs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A skill that may not be, or cannot be had now."""

    name: SkillName
    #: One sentence.
    says: str


@dataclass(frozen=True)
class Found:
    """What came of a search."""

    offers: Sequence[Offer]
    #: How many are still being looked at.
    unfinished: int = 0
    #: A sentence on the answer as a whole; empty: there is nothing to say.
    hint: str = ""


class Catalogue:
    """One for a front."""

    def __init__(self, mirror: Mirror, within: float = _WITHIN) -> None:
        """`within`: seconds for a search."""
        self._mirror = mirror
        self._listing = Listing(mirror)
        self._within = within

    @property
    def open(self) -> bool:
        """Whether the operator wants skills at all."""
        return self._mirror.upstream is not None

    async def search(self, words: str) -> Found:
        """By meaning, the best first; raises :class:`~bot.front.skills.errors.SkillError` where nobody can look."""
        answer = await self._listing.search(words, _LOOKED_AT)
        names = [name for row in answer["results"] if (name := _name_of(row)) is not None]
        offers, unfinished = await self._vetted(names)
        hint = str(answer.get("hint", ""))
        if not offers and not unfinished:
            if hint:
                hint = "ClawHub does not answer, and nothing that Zaki has kept fits. Try again in a while."
            elif _SLUG.match(words):
                hint = await self._why_not(words)
        return Found(offers[:_SHOWN], unfinished, hint)

    async def look(self, name: SkillName) -> Offer | Refused:
        """One skill: its newest version that passed, or why there is none."""
        try:
            skill = await self._mirror.skill(name.slug, name.owner)
            return _offer(skill, await self._mirror.latest(skill))
        except SkillError as error:
            return Refused(name, error.sentence)

    async def look_at(self, names: Sequence[SkillName]) -> list[Offer | Refused]:
        """Several, in their order; one that takes too long counts as one that cannot be had now."""
        looks = [asyncio.create_task(self.look(name)) for name in names]
        try:
            await asyncio.wait(looks, timeout=self._within)
        finally:
            for task in looks:
                task.cancel()
        late = "Zaki is still checking it; look again in a minute."
        return [
            task.result() if task.done() and not task.cancelled() else Refused(name, late)
            for name, task in zip(names, looks, strict=True)
        ]

    async def _vetted(self, names: Sequence[SkillName]) -> tuple[list[Offer], int]:
        if not names:
            return [], 0
        looks = {name: asyncio.create_task(self.look(name)) for name in dict.fromkeys(names)}
        try:
            await asyncio.wait(looks.values(), timeout=self._within)
            done = [task.result() for task in looks.values() if task.done()]
        finally:
            for task in looks.values():
                task.cancel()
        return [found for found in done if isinstance(found, Offer)], len(looks) - len(done)

    async def _why_not(self, slug: str) -> str:
        """Of a skill that was asked for by its name and is none of the results."""
        try:
            skill = await self._mirror.skill(slug, None)
            await self._mirror.latest(skill)
        except SkillError as error:
            return error.sentence if error.status != 404 else ""
        return ""


def _offer(skill: Skill, row: SkillVersion) -> Offer:
    return Offer(SkillName(skill.owner, skill.slug), skill.display_name, skill.summary, row.version, row.needs)


def _name_of(row: Mapping[str, Any]) -> SkillName | None:
    owner, slug = row.get("ownerHandle"), row.get("slug")
    if not isinstance(owner, str) or not isinstance(slug, str):
        return None
    try:
        return skill_name(owner, slug)
    except BadName:
        return None
