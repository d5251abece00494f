"""Which instance has which version of which skill; for whoever installs, updates and removes them there."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import Reference, SkillName
from bot.skills.recalls import in_force
from bot.store import now
from bot.store.tables import SkillLock, SkillOrigin, SkillVersion


async def note(session: AsyncSession, instance_id: str, reference: Reference, digest: str, origin: SkillOrigin) -> None:
    """Note that an instance has a version, or with `DOWNLOAD` that it may.

    `digest` is OpenClaw's of the unpacked folder. A version that is recalled meanwhile is marked as to be removed.
    """
    name = reference.name
    # A recall takes these rows too, so that it sees this lock, or this sees the recall.
    mine = (SkillVersion.owner == name.owner, SkillVersion.slug == name.slug)
    await session.execute(
        select(SkillVersion.version).where(*mine, SkillVersion.version == reference.version).with_for_update()
    )
    recall = await in_force(session, reference)
    values: dict[str, object] = {
        "digest": digest,
        "at": now(),
        "remove_since": now() if recall else None,
        "recall_id": recall.id if recall else None,
    }
    key = {"instance_id": instance_id, "owner": name.owner, "slug": name.slug, "version": reference.version}
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(SkillLock).values(**key, origin=origin, **values)
    # What was seen there stays so.
    anew = {**values, "origin": case((SkillLock.origin == SkillOrigin.INSTALL, SkillOrigin.INSTALL), else_=origin)}
    await session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=anew))


async def settle(session: AsyncSession, instance_id: str, reference: Reference, digest: str) -> None:
    """The instance has this version of the skill where OpenClaw puts it: it was looked at there.

    What it downloaded besides may be anywhere, so a recall still looks for that.
    """
    await note(session, instance_id, reference, digest, SkillOrigin.INSTALL)
    others = delete(SkillLock).where(
        SkillLock.instance_id == instance_id,
        SkillLock.owner == reference.name.owner,
        SkillLock.slug == reference.name.slug,
        SkillLock.version != reference.version,
        SkillLock.origin == SkillOrigin.INSTALL,
    )
    await session.execute(others)


async def of_instance(session: AsyncSession, instance_id: str) -> list[SkillLock]:
    """What an instance has, or downloaded and did not remove since, by name."""
    query = select(SkillLock).where(SkillLock.instance_id == instance_id, SkillLock.origin != SkillOrigin.PAST)
    return list(await session.scalars(query.order_by(SkillLock.owner, SkillLock.slug, SkillLock.version)))


async def to_remove(session: AsyncSession, instance_id: str) -> list[SkillLock]:
    """What an instance has, or may have, even as a copy somewhere, and must lose."""
    query = select(SkillLock).where(SkillLock.instance_id == instance_id, SkillLock.remove_since.is_not(None))
    return list(await session.scalars(query.order_by(SkillLock.owner, SkillLock.slug, SkillLock.version)))


async def waiting(session: AsyncSession) -> list[str]:
    """Instances that have something to lose."""
    query = select(SkillLock.instance_id).where(SkillLock.remove_since.is_not(None)).distinct()
    return list(await session.scalars(query.order_by(SkillLock.instance_id)))


async def uninstalled(session: AsyncSession, instance_id: str, name: SkillName) -> None:
    """The skill is nowhere any more where OpenClaw would take it from; copies of what was downloaded may be left."""
    mine = (SkillLock.instance_id == instance_id, SkillLock.owner == name.owner, SkillLock.slug == name.slug)
    await session.execute(delete(SkillLock).where(*mine, SkillLock.origin == SkillOrigin.INSTALL))
    await session.execute(update(SkillLock).where(*mine).values(origin=SkillOrigin.PAST))


async def removed(session: AsyncSession, instance_id: str, reference: Reference) -> None:
    """The instance no longer has a version of a skill: its whole volume was looked through."""
    gone = delete(SkillLock).where(
        SkillLock.instance_id == instance_id,
        SkillLock.owner == reference.name.owner,
        SkillLock.slug == reference.name.slug,
        SkillLock.version == reference.version,
    )
    await session.execute(gone)


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
