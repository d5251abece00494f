"""Which instance has which version of which skill; for whoever installs, updates and removes them there."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import Reference, SkillName
from bot.skills.recalls import in_force
from bot.store import now
from bot.store.tables import SkillLock, SkillOrigin


async def note(session: AsyncSession, instance_id: str, reference: Reference, digest: str, origin: SkillOrigin) -> None:
    """Note that an instance has a version, or with `DOWNLOAD` that it may.

    `digest` is OpenClaw's of the unpacked folder. A version that is recalled meanwhile is marked as to be removed.
    """
    key = (instance_id, reference.name.owner, reference.name.slug, reference.version)
    lock = await session.get(SkillLock, key)
    if lock is None:
        lock = SkillLock(instance_id=key[0], owner=key[1], slug=key[2], version=key[3], origin=origin)
        session.add(lock)
    lock.digest, lock.at = digest, now()
    if origin is SkillOrigin.INSTALL:
        lock.origin = origin
    recalled = await in_force(session, reference)
    lock.remove_since, lock.recall_id = (now(), recalled.id) if recalled else (None, None)


async def settle(session: AsyncSession, instance_id: str, reference: Reference, digest: str) -> None:
    """The instance has exactly this version of the skill: it was looked at there, and others of it are gone."""
    await note(session, instance_id, reference, digest, SkillOrigin.INSTALL)
    others = delete(SkillLock).where(
        SkillLock.instance_id == instance_id,
        SkillLock.owner == reference.name.owner,
        SkillLock.slug == reference.name.slug,
        SkillLock.version != reference.version,
    )
    await session.execute(others)


async def of_instance(session: AsyncSession, instance_id: str) -> list[SkillLock]:
    """What an instance has, or may have, by name."""
    query = select(SkillLock).where(SkillLock.instance_id == instance_id)
    return list(await session.scalars(query.order_by(SkillLock.owner, SkillLock.slug, SkillLock.version)))


async def to_remove(session: AsyncSession, instance_id: str) -> list[SkillLock]:
    """What an instance has, or may have, and must lose."""
    query = select(SkillLock).where(SkillLock.instance_id == instance_id, SkillLock.remove_since.is_not(None))
    return list(await session.scalars(query.order_by(SkillLock.owner, SkillLock.slug, SkillLock.version)))


async def waiting(session: AsyncSession) -> list[str]:
    """Instances that have something to lose."""
    query = select(SkillLock.instance_id).where(SkillLock.remove_since.is_not(None)).distinct()
    return list(await session.scalars(query.order_by(SkillLock.instance_id)))


async def removed(session: AsyncSession, instance_id: str, name: SkillName, version: str | None = None) -> None:
    """The instance no longer has a version of a skill, or with None any; it was looked at there."""
    gone = delete(SkillLock).where(
        SkillLock.instance_id == instance_id, SkillLock.owner == name.owner, SkillLock.slug == name.slug
    )
    await session.execute(gone if version is None else gone.where(SkillLock.version == version))


async def forget(session: AsyncSession, instance_id: str) -> None:
    """The instance is gone."""
    await session.execute(delete(SkillLock).where(SkillLock.instance_id == instance_id))


async def counts(session: AsyncSession, name: SkillName | None = None) -> dict[tuple[str, str, str], int]:
    """How many instances have a version, by owner, slug and version."""
    columns: Sequence[object] = (SkillLock.owner, SkillLock.slug, SkillLock.version)
    query = select(SkillLock.owner, SkillLock.slug, SkillLock.version, func.count())
    if name is not None:
        query = query.where(SkillLock.owner == name.owner, SkillLock.slug == name.slug)
    rows = await session.execute(query.group_by(*columns))  # type: ignore[arg-type]
    return {(owner, slug, version): count for owner, slug, version, count in rows}
