"""Recalls: a skill that no instance may have any more, told to the mirror and marked in every instance's locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import Reference, SkillName
from bot.store import now
from bot.store.tables import AuditEntry, SkillLock, SkillRecall, SkillVerdict, SkillVersion


@dataclass(frozen=True)
class Recalled:
    """What a recall did."""

    id: int
    #: Instances that have, or may have, a version of it.
    instances: tuple[str, ...]
    #: Archives that nothing else has and that the shelf should drop, by SHA-256.
    archives: tuple[str, ...]


async def recall(
    session: AsyncSession,
    name: SkillName,
    version: str | None,
    reason: str,
    source: Literal["operator", "verdict"] = "operator",
) -> Recalled:
    """Recall a version, or with None the skill: no longer served from this commit on, locks marked, audited.

    One that holds already is repeated, which marks what was missed.
    """
    at = now()
    recalled = SkillRecall(
        owner=name.owner, slug=name.slug, version=version, reason=reason, source=source, at=at, lifted_at=None
    )
    session.add(recalled)
    await session.flush()
    mine = (SkillVersion.owner == name.owner, SkillVersion.slug == name.slug)
    versions = select(SkillVersion).where(*mine)
    locks = select(SkillLock).where(SkillLock.owner == name.owner, SkillLock.slug == name.slug)
    if version is not None:
        versions = versions.where(SkillVersion.version == version)
        locks = locks.where(SkillLock.version == version)
    archives = set()
    for row in await session.scalars(versions.with_for_update()):
        row.verdict = SkillVerdict.RECALLED
        if row.archive is not None:
            archives.add(row.archive)
            row.archive = None
    instances = set()
    for lock in await session.scalars(locks):
        instances.add(lock.instance_id)
        if lock.remove_since is None:
            lock.remove_since, lock.recall_id = at, recalled.id
    await session.flush()
    still = set(await session.scalars(select(SkillVersion.archive).where(SkillVersion.archive.in_(archives))))
    what = f"{name}@{version}" if version is not None else str(name)
    for instance in (None, *sorted(instances)):
        session.add(
            AuditEntry(at=at, instance_id=instance, action="skill.recall", detail=f"{what} ({source}): {reason}")
        )
    return Recalled(recalled.id, tuple(sorted(instances)), tuple(sorted(archives - still)))


async def in_force(session: AsyncSession, reference: Reference) -> SkillRecall | None:
    """The recall that keeps a version from instances; None: there is none."""
    name = reference.name
    query = (
        select(SkillRecall)
        .where(
            SkillRecall.owner == name.owner,
            SkillRecall.slug == name.slug,
            SkillRecall.lifted_at.is_(None),
            or_(SkillRecall.version.is_(None), SkillRecall.version == reference.version),
        )
        .order_by(SkillRecall.id.desc())
        .limit(1)
    )
    return (await session.scalars(query)).one_or_none()


async def of_versions(session: AsyncSession) -> list[tuple[SkillRecall, SkillVersion]]:
    """Every version that was looked into and that a recall keeps from instances, with that recall."""
    query = (
        select(SkillRecall, SkillVersion)
        .join(
            SkillVersion,
            and_(
                SkillVersion.owner == SkillRecall.owner,
                SkillVersion.slug == SkillRecall.slug,
                or_(SkillRecall.version.is_(None), SkillRecall.version == SkillVersion.version),
            ),
        )
        .where(SkillRecall.lifted_at.is_(None), SkillVersion.digest.is_not(None))
        .order_by(SkillRecall.id.desc())
    )
    return [(recalled, version) for recalled, version in await session.execute(query)]


async def lift(session: AsyncSession, name: SkillName, version: str | None) -> int:
    """Take back the recalls of exactly this version, or with None of the skill; how many there were.

    Versions are vetted anew before they are served. Where an instance still has one, it may keep it.
    """
    exactly = SkillRecall.version.is_(None) if version is None else SkillRecall.version == version
    query = select(SkillRecall).where(
        SkillRecall.owner == name.owner, SkillRecall.slug == name.slug, SkillRecall.lifted_at.is_(None), exactly
    )
    found = list(await session.scalars(query))
    for recalled in found:
        recalled.lifted_at = now()
        marked = update(SkillLock).where(SkillLock.recall_id == recalled.id)
        await session.execute(marked.values(remove_since=None, recall_id=None))
    if found:
        what = f"{name}@{version}" if version is not None else str(name)
        session.add(AuditEntry(at=now(), instance_id=None, action="skill.unrecall", detail=what))
    return len(found)
