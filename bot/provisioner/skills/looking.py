"""What the database says of an instance's skills: wished, there, known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.provisioner.skills.decision import Act, Present, Step, Version, Wished, decide
from bot.provisioner.skills.folders import Files
from bot.skills import locks, recalls
from bot.skills.names import Reference, SkillName
from bot.skills.sets import Recommended
from bot.store import now
from bot.store.tables import (
    Instance,
    SkillLock,
    SkillOrigin,
    SkillPolicy,
    SkillSource,
    SkillState,
    SkillStatus,
    SkillVerdict,
    SkillVersion,
    SkillWanted,
    SkillWish,
)


async def steps(session: AsyncSession, instance: Instance, plan: Sequence[Recommended]) -> list[Step]:
    """What there is to do about the instance's skills, urgent things first; `plan`: what its plan recommends.

    One that must be lost comes first and alone, and is not among them: see :func:`bot.skills.locks.to_remove`.
    """
    wished = await _wished(session, instance, plan)
    if not wished:
        return []
    held: dict[SkillName, list[SkillLock]] = {}
    for lock in await locks.of_instance(session, instance.id):
        held.setdefault(SkillName(lock.owner, lock.slug), []).append(lock)
    states = {
        SkillName(state.owner, state.slug): state
        for state in await session.scalars(select(SkillState).where(SkillState.instance_id == instance.id))
    }
    there = {name for name, found in held.items() if any(lock.origin == SkillOrigin.INSTALL for lock in found)}
    known = await _versions(session, wished.keys())
    found = []
    for name, wish in wished.items():
        rows = known.get(name, [])
        present = _present(held.get(name, []), states.get(name), rows)
        passed = [Version(row.version, row.needs) for row in rows if row.verdict == SkillVerdict.PASSED]
        clash = next((other for other in sorted(there) if other.slug == name.slug and other != name), None)
        step = decide(wish, present, passed, clash, now())
        if step.act is not Act.NOTHING:
            found.append(step)
    return sorted(found, key=lambda step: not step.urgent)


async def vetted(session: AsyncSession, name: SkillName) -> list[Files]:
    """Every version of the skill into which somebody has looked, with its files."""
    return [
        Files(Reference(name, row.version), row.digest, hashes_of(row))
        for row in (await _versions(session, [name])).get(name, [])
        if row.digest is not None
    ]


@dataclass(frozen=True)
class Lost:
    """A version that an instance must lose."""

    #: By what it is found there.
    files: Files
    recall_id: int | None
    #: Unix time since when it must.
    since: float
    #: How it is known that it has, or had, it; None: it is not.
    origin: SkillOrigin | None

    @property
    def is_held(self) -> bool:
        """Whether it has it as far as anybody knows; else only what is found counts."""
        return self.origin not in (None, SkillOrigin.PAST)


async def to_lose(session: AsyncSession, instance: Instance) -> list[Lost]:
    """What the instance must lose; where nobody knows what it has, everything that is recalled."""
    found = {}
    for lock in await locks.to_remove(session, instance.id):
        row = await session.get(SkillVersion, (lock.owner, lock.slug, lock.version))
        reference = Reference(SkillName(lock.owner, lock.slug), lock.version)
        files = Files(reference, lock.digest, hashes_of(row) if row is not None else {})
        found[reference] = Lost(files, lock.recall_id, lock.remove_since or now(), SkillOrigin(lock.origin))
    if is_strange(instance):
        for recall, row in await recalls.of_versions(session):
            reference = Reference(SkillName(row.owner, row.slug), row.version)
            files = Files(reference, str(row.digest), hashes_of(row))
            found.setdefault(reference, Lost(files, recall.id, recall.at, None))
    return list(found.values())


def is_strange(instance: Instance) -> bool:
    """Whether its files may be another time's than the database: from an archive, a backup, or adopted with it."""
    # Which is so until it is configured, and that is the last before it runs.
    return instance.config_hash is None


def hashes_of(row: SkillVersion) -> dict[str, str]:
    """SHA-256 (hex) of each of its files by path."""
    return {str(file["path"]): str(file["sha256"]) for file in row.files}


async def _wished(session: AsyncSession, instance: Instance, plan: Sequence[Recommended]) -> dict[SkillName, Wished]:
    """The plan's skills, and over them what is wished for its person."""
    found = {
        each.name: Wished(each.name, True, each.policy, each.version, None, SkillSource.PLAN, 0.0) for each in plan
    }
    if instance.user_id is None:
        return found
    for row in await session.scalars(select(SkillWish).where(SkillWish.user_id == instance.user_id)):
        name = SkillName(row.owner, row.slug)
        policy = SkillPolicy(row.policy)
        version = row.version if policy is SkillPolicy.PIN else None
        present = row.wanted == SkillWanted.PRESENT
        source = SkillSource(row.source)
        if source is SkillSource.PLAN and name in found:
            found[name] = replace(found[name], present=present, approved=row.approved, asked_at=row.asked_at)
            continue
        found[name] = Wished(name, present, policy, version, row.approved, source, row.asked_at)
    return found


async def _versions(session: AsyncSession, names: Iterable[SkillName]) -> dict[SkillName, list[SkillVersion]]:
    found: dict[SkillName, list[SkillVersion]] = {}
    wanted = set(names)
    query = select(SkillVersion).where(SkillVersion.slug.in_({name.slug for name in wanted}))
    for row in await session.scalars(query.order_by(SkillVersion.published_at.desc())):
        if (name := SkillName(row.owner, row.slug)) in wanted:
            found.setdefault(name, []).append(row)
    return found


def _present(held: Sequence[SkillLock], state: SkillState | None, rows: Sequence[SkillVersion]) -> Present:
    seen = next((lock for lock in held if lock.origin == SkillOrigin.INSTALL), None)
    version = seen.version if seen is not None else None
    return Present(
        version=version,
        fetched=bool(held),
        status=SkillStatus(state.state) if state is not None else None,
        offered=state.offered if state is not None else None,
        updated_at=state.updated_at if state is not None else 0.0,
        needs=next((row.needs for row in rows if row.version == version), {}),
    )
