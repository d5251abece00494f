"""Search, lists and what is trending: the registry's while it answers, the store's while it does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from bot.front.skills import answers
from bot.front.skills.errors import Unavailable
from bot.front.skills.intake import number
from bot.front.skills.mirror import Mirror
from bot.front.skills.standing import unwanted
from bot.skills import locks
from bot.skills.names import BadName, SkillName, skill_name
from bot.store.tables import Skill, SkillVerdict, SkillVersion

#: What is said beside an answer of the store's.
AWAY = "ClawHub does not answer; these are the skills that Zaki has kept."
_AWAY_NOTE = "(ClawHub does not answer; kept by Zaki)"
_MOST = 100


class Listing:
    """Answers that name many skills. Those that no instance could install are left out."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def search(self, words: str, limit: int, mode: str | None = None) -> dict[str, Any]:
        """`GET /search`."""
        try:
            asked = {"q": words, "limit": str(limit), "mode": mode}
            answer = await self._registry_answers("/api/v1/search", asked, "results")
        except Unavailable:
            kept = await self._kept(_scorer(words))
            rows = [answers.result(skill.owner, _as_item(skill), score, _AWAY_NOTE) for score, skill in kept[:limit]]
            return {"results": rows, "hint": AWAY}
        rows = []
        for name, item in await self._wanted(answer["results"]):
            if name is not None:
                rows.append(answers.result(name.owner, item, number(item.get("score"))))
        return {"results": rows[:limit]}

    async def trending(self, limit: int) -> dict[str, Any]:
        """`GET /trending`."""
        try:
            asked = {"kind": "skills", "limit": str(limit)}
            answer = await self._registry_answers("/api/v1/trending", asked, "items")
        except Unavailable:
            used = await self._used()
            kept = await self._kept(lambda skill: 1.0 + used.get((skill.owner, skill.slug), 0))
            rows = [answers.result(skill.owner, _as_item(skill), 0.0, _AWAY_NOTE) for _, skill in kept[:limit]]
            return {"items": rows, "nextCursor": None, "hint": AWAY}
        wanted = await self._wanted(answer["items"])
        rows = [answers.result(name.owner, item, 0.0) for name, item in wanted if name is not None]
        return {"items": rows[:limit], "nextCursor": None}

    async def skills(self, params: Mapping[str, str | None], limit: int) -> dict[str, Any]:
        """`GET /skills`."""
        try:
            answer = await self._registry_answers("/api/v1/skills", {**params, "limit": str(limit)}, "items")
        except Unavailable:
            prefix = (params.get("prefix") or "").lower()
            kept = await self._kept(lambda skill: float(skill.slug.startswith(prefix)))
            return {"items": [answers.skill_item(skill, None) for _, skill in kept[:limit]], "nextCursor": None}
        items = []
        for name, item in await self._wanted(answer["items"]):
            row = answers.result(None, item, 0.0)
            items.append(
                {
                    **{key: row[key] for key in ("slug", "displayName", "summary", "updatedAt")},
                    "tags": {},
                    "stats": {},
                    "createdAt": row["updatedAt"],
                    **({"ownerHandle": name.owner} if name is not None else {}),
                }
            )
        cursor = answer.get("nextCursor")
        return {"items": items, "nextCursor": cursor if isinstance(cursor, str) else None}

    async def _registry_answers(self, path: str, params: Mapping[str, str | None], field: str) -> dict[str, Any]:
        answer = await self._mirror.search(path, params)
        found = answer.get(field)
        rows = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        return {**answer, field: [item for item in rows[:_MOST] if item.get("source") in (None, "clawhub")]}

    async def _unwanted(self, names: Iterable[SkillName]) -> set[SkillName]:
        async with self._mirror.database.read() as session:
            return await unwanted(session, names)

    async def _wanted(self, items: Iterable[dict[str, Any]]) -> list[tuple[SkillName | None, dict[str, Any]]]:
        """Rows of the registry's that somebody might install, with the skill that each is about."""
        named = [(_name_of(item), item) for item in items]
        never = await self._unwanted(name for name, _ in named if name is not None)
        return [(name, item) for name, item in named if name not in never]

    async def _kept(self, score: Callable[[Skill], float]) -> Sequence[tuple[float, Skill]]:
        """Skills of which a version can be served without the registry, the best first."""
        query = (
            select(Skill)
            .join(SkillVersion, (SkillVersion.owner == Skill.owner) & (SkillVersion.slug == Skill.slug))
            .where(SkillVersion.verdict == SkillVerdict.PASSED, SkillVersion.archive.is_not(None))
            .distinct()
        )
        async with self._mirror.database.read() as session:
            found = list(await session.scalars(query))
        never = await self._unwanted(SkillName(skill.owner, skill.slug) for skill in found)
        scored = [(score(skill), skill) for skill in found if SkillName(skill.owner, skill.slug) not in never]
        return sorted((one for one in scored if one[0] > 0), key=lambda one: (-one[0], one[1].slug))

    async def _used(self) -> dict[tuple[str, str], int]:
        async with self._mirror.database.read() as session:
            found: dict[tuple[str, str], int] = {}
            for (owner, slug, _version), count in (await locks.counts(session)).items():
                found[owner, slug] = found.get((owner, slug), 0) + count
            return found


def _scorer(words: str) -> Callable[[Skill], float]:
    wanted = set(re.findall(r"\w+", words.lower()))

    def score(skill: Skill) -> float:
        name = set(re.findall(r"[^\W_]+", f"{skill.slug} {skill.display_name}".lower()))
        about = set(re.findall(r"\w+", skill.summary.lower()))
        part = sum(0.5 for word in wanted if any(word in known for known in name - wanted))
        return 2.0 * len(wanted & name) + len(wanted & about) + part

    return score


def _name_of(item: Mapping[str, Any]) -> SkillName | None:
    """Whose skill a row is about; None: it does not say, so nobody could install it by name."""
    handles = [item.get("ownerHandle")]
    handles += [part.get("handle") for part in (item.get("publisher"), item.get("owner")) if isinstance(part, dict)]
    handle = next((one for one in handles if isinstance(one, str) and one), None)
    slug = item.get("slug")
    if handle is None or not isinstance(slug, str):
        return None
    try:
        return skill_name(handle, slug)
    except BadName:
        return None


def _as_item(skill: Skill) -> dict[str, Any]:
    return {
        "slug": skill.slug,
        "displayName": skill.display_name,
        "summary": skill.summary,
        "version": skill.latest,
        "updatedAt": skill.updated_at,
    }
