"""What `security.installPolicy` of an instance is told: install it, or not.

Asked by the executable in scripts/image, which sends OpenClaw's own request (docs: cli/skills.md) and the digest of the
folder that is about to be installed. It stops mistakes, no more: an agent may write files itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.skills.errors import Forbidden, SkillError
from bot.front.skills.mirror import Mirror
from bot.front.skills.standing import reference_of
from bot.skills import locks
from bot.skills.names import BadName, Reference, checked_version, skill_name
from bot.skills.needs import new_needs
from bot.skills.sets import SetsError, load
from bot.store.tables import Instance, SkillOrigin, SkillPolicy, SkillVerdict, SkillVersion, SkillWish, Wish

#: Of OpenClaw's install policy.
PROTOCOL = 1


async def decide(mirror: Mirror, sets: Path | None, asked: dict[str, Any], instance_id: str) -> dict[str, Any]:
    """OpenClaw's answer, `allow` or `block` with a sentence; whatever cannot be told is blocked.

    `sets`: the operator's file of recommended skills; None: Zaki's own.
    """
    try:
        row = await _check(mirror, asked)
        if row is not None:
            async with mirror.database.read() as session:
                await _agreed(session, sets, instance_id, row)
    except SkillError as error:
        return blocked(error.sentence)
    except BadName as error:
        return blocked(str(error))
    return {"protocolVersion": PROTOCOL, "decision": "allow"}


def blocked(sentence: str) -> dict[str, Any]:
    """The answer no."""
    return {"protocolVersion": PROTOCOL, "decision": "block", "reason": sentence[:1000]}


async def _check(mirror: Mirror, asked: dict[str, Any]) -> SkillVersion | None:
    """The version that is about to be installed; None: nothing is. Raises where Zaki has not vetted it."""
    request, digest = asked.get("request"), asked.get("digest")
    request = request if isinstance(request, dict) else {}
    origin = request.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    if request.get("protocolVersion") != PROTOCOL:
        raise Forbidden("Zaki does not know this way of asking; its operator updates Zaki and OpenClaw together.")
    if origin.get("type") == "doctor":
        # OpenClaw's own trial of the policy, which installs nothing.
        return None
    if request.get("targetType") != "skill":
        raise Forbidden("Zaki installs skills only, no plugins.")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise Forbidden("Zaki was not told what is about to be installed.")
    if origin.get("type") == "clawhub":
        owner, slug, version = (origin.get(key) for key in ("ownerHandle", "slug", "version"))
        name = skill_name(owner if isinstance(owner, str) else (await mirror.skill(str(slug), None)).owner, str(slug))
        row = await mirror.version(Reference(name, checked_version(str(version))))
        if row.digest != digest:
            raise Forbidden(f"The files of {name} are not those of version {row.version} that Zaki vetted.")
        return row
    async with mirror.database.read() as session:
        same = select(SkillVersion).where(SkillVersion.digest == digest, SkillVersion.verdict == SkillVerdict.PASSED)
        rows = list(await session.scalars(same))
    for row in rows:
        return await mirror.version(Reference(skill_name(row.owner, row.slug), row.version))
    raise Forbidden("Zaki has not vetted these files; install the skill from ClawHub, by its name @owner/name.")


async def _agreed(session: AsyncSession, sets: Path | None, instance_id: str, row: SkillVersion) -> None:
    """Raise where the instance has another version of the skill, this one asks for more, and nobody agreed to that."""
    held = next(
        (
            lock.version
            for lock in await locks.of_instance(session, instance_id)
            if (lock.owner, lock.slug, lock.origin) == (row.owner, row.slug, SkillOrigin.INSTALL)
        ),
        None,
    )
    if held is None or held == row.version:
        return
    before = await session.get(SkillVersion, (row.owner, row.slug, held))
    asks = new_needs(before.needs if before is not None else {}, row.needs)
    if not asks or row.version in await _wanted(session, sets, instance_id, row):
        return
    words = ", ".join(word for kind in asks.values() for word in kind)[:200]
    raise Forbidden(
        f"{reference_of(row)} asks for more than version {held}, which is installed: {words}. The person whose "
        "assistant this is decides about that in the chat with Zaki: they are asked there, or choose under /skills "
        "that every new version may come. Until they agree, it stays as it is."
    )


async def _wanted(
    session: AsyncSession, sets: Path | None, instance_id: str, row: SkillVersion
) -> tuple[str | None, ...]:
    """The versions to which the person agreed, or which they, their plan or the operator named."""
    instance = await session.get_one(Instance, instance_id)
    plan_name = instance.plan
    if instance.user_id is not None:
        wished = await session.get(SkillWish, (instance.user_id, row.owner, row.slug))
        if wished is not None:
            return wished.approved, wished.version if wished.policy == SkillPolicy.PIN else None
        wish = await session.get(Wish, instance.user_id)
        plan_name = wish.plan if wish is not None else plan_name
    try:
        plan = load(sets).of_plan(plan_name)
    except SetsError:
        return ()
    return tuple(each.version for each in plan if (each.name.owner, each.name.slug) == (row.owner, row.slug))
