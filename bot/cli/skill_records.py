"""What the database holds of skills, in the words that commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from bot.cli.output import CliError, Row, moment
from bot.skills import holdings, locks
from bot.skills.names import SkillName
from bot.store.tables import Skill, SkillLock, SkillRecall, SkillRule, SkillVerdict, SkillVersion, User

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from bot.skills.sets import SkillSets


async def version_rows(session: AsyncSession) -> list[Row]:
    """Every version that was vetted."""
    having = await locks.counts(session)
    query = select(SkillVersion).order_by(SkillVersion.owner, SkillVersion.slug, SkillVersion.published_at)
    return [_version(row, having) for row in await session.scalars(query)]


async def skill_details(session: AsyncSession, name: SkillName, version: str | None) -> Row:
    """One skill with its versions, or one of them; raises :class:`CliError` where none was asked for."""
    query = select(SkillVersion).where(SkillVersion.owner == name.owner, SkillVersion.slug == name.slug)
    if version is not None:
        query = query.where(SkillVersion.version == version)
    rows = list(await session.scalars(query.order_by(SkillVersion.published_at.desc())))
    recalls = await _recalls(session, name, version)
    rules = await _rules(session, name)
    if not rows and not recalls and not rules:
        raise CliError(f"{name}{f'@{version}' if version else ''} was never asked for; `zaki skill vet` looks at it.")
    skill = await session.get(Skill, (name.owner, name.slug))
    having = await locks.counts(session, name)
    needs = rows[0].needs if rows else {}
    return {
        "skill": str(name),
        "title": skill.display_name if skill else None,
        "summary": skill.summary if skill else None,
        "latest": skill.latest if skill else None,
        "gone_since": moment(skill.gone_at) if skill else None,
        "digest": rows[0].digest if rows else None,
        "needs": {kind: " ".join(words) for kind, words in sorted(needs.items())},
        "versions": [
            {**_version(row, having), "vetted": moment(row.vetted_at), "checked": moment(row.checked_at)}
            for row in rows
        ],
        "reasons": [
            {"version": row.version, "check": reason["check"], "overruled": reason["overruled"], "says": reason["says"]}
            for row in rows
            for reason in row.reasons
        ],
        "rules": rules,
        "recalls": recalls,
        "instances": await _having(session, name, version),
    }


async def found_rows(session: AsyncSession, found: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Results of a search, with what is known of the version."""
    rows = []
    for item in found:
        owner, slug, version = item.get("ownerHandle"), item["slug"], item["version"]
        known = await session.get(SkillVersion, (owner, slug, version)) if owner and version else None
        rows.append(
            {
                "skill": f"@{owner}/{slug}" if owner else slug,
                "version": version,
                "title": item["displayName"],
                "summary": item["summary"],
                "known": known.verdict if known is not None else "not vetted yet",
            }
        )
    return rows


async def set_rows(session: AsyncSession, sets: SkillSets) -> list[Row]:
    """Each skill of each set, with whether a version of it passed."""
    named = [("need", need.key, need.title, skill) for need in sets.needs for skill in need.skills]
    named += [("plan", plan, plan, skill) for plan, skills in sets.plans.items() for skill in skills]
    rows = []
    for kind, key, title, skill in named:
        query = select(SkillVersion.verdict).where(
            SkillVersion.owner == skill.name.owner, SkillVersion.slug == skill.name.slug
        )
        verdicts = set(await session.scalars(query))
        worst = next(iter(sorted(verdicts)), "not vetted yet")
        rows.append(
            {
                "kind": kind,
                "set": key,
                "title": title,
                "skill": str(skill.name),
                "version": skill.version,
                "policy": str(skill.policy),
                "known": str(SkillVerdict.PASSED if SkillVerdict.PASSED in verdicts else worst),
            }
        )
    return rows


async def person_rows(session: AsyncSession, telegram_id: int) -> list[Row]:
    """What a person's instance has of skills, is about to have, or is about to lose; and who asked for each."""
    user_id = await session.scalar(select(User.id).where(User.telegram_id == telegram_id))
    if user_id is None:
        return []
    return [
        {
            "skill": str(one.name),
            "wanted": one.wanted,
            "state": "recalled" if one.recalled else (str(one.status) if one.status else None),
            "version": one.version,
            "policy": str(one.policy),
            "source": str(one.source) if one.source else None,
            "offered": one.offered,
            "why": one.detail or None,
        }
        for one in await holdings.of_person(session, user_id)
    ]


def _version(row: SkillVersion, having: Mapping[tuple[str, str, str], int]) -> Row:
    return {
        "skill": f"@{row.owner}/{row.slug}",
        "version": row.version,
        "verdict": str(row.verdict),
        "instances": having.get((row.owner, row.slug, row.version), 0),
        "size": row.size if row.archive else None,
        "why": " ".join(str(reason["says"]) for reason in row.reasons) or None,
    }


async def _rules(session: AsyncSession, name: SkillName) -> list[Row]:
    query = select(SkillRule).where(SkillRule.owner.in_(("", name.owner)), SkillRule.slug.in_(("", name.slug)))
    found = await session.scalars(query.order_by(SkillRule.owner, SkillRule.slug, SkillRule.version))
    return [
        {
            "about": f"@{rule.owner}/{rule.slug}@{rule.version}".rstrip("@/") or "*",
            "effect": str(rule.effect),
            "reason": rule.reason,
            "since": moment(rule.made_at),
        }
        for rule in found
    ]


async def _recalls(session: AsyncSession, name: SkillName, version: str | None) -> list[Row]:
    query = select(SkillRecall).where(SkillRecall.owner == name.owner, SkillRecall.slug == name.slug)
    found = await session.scalars(query.order_by(SkillRecall.id))
    return [
        {
            "version": recall.version or "every",
            "source": recall.source,
            "reason": recall.reason,
            "at": moment(recall.at),
            "lifted": moment(recall.lifted_at),
        }
        for recall in found
        if version in (None, recall.version) or recall.version is None
    ]


async def _having(session: AsyncSession, name: SkillName, version: str | None) -> list[Row]:
    query = select(SkillLock).where(SkillLock.owner == name.owner, SkillLock.slug == name.slug)
    if version is not None:
        query = query.where(SkillLock.version == version)
    return [
        {
            "instance": lock.instance_id,
            "version": lock.version,
            "known_by": str(lock.origin),
            "since": moment(lock.at),
            "to_be_removed_since": moment(lock.remove_since),
        }
        for lock in await session.scalars(query.order_by(SkillLock.instance_id))
    ]
