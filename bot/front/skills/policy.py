"""What `security.installPolicy` of an instance is told: install it, or not.

Asked by the executable in scripts/image, which sends OpenClaw's own request (docs: cli/skills.md) and the digest of the
folder that is about to be installed. It stops mistakes, no more: an agent may write files itself.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from bot.front.skills.errors import Forbidden, SkillError
from bot.front.skills.mirror import Mirror
from bot.skills.names import BadName, Reference, checked_version, skill_name
from bot.store.tables import SkillVerdict, SkillVersion

#: Of OpenClaw's install policy.
PROTOCOL = 1


async def decide(mirror: Mirror, asked: dict[str, Any]) -> dict[str, Any]:
    """OpenClaw's answer, `allow` or `block` with a sentence; whatever cannot be told is blocked."""
    try:
        await _check(mirror, asked)
    except SkillError as error:
        return blocked(error.sentence)
    except BadName as error:
        return blocked(str(error))
    return {"protocolVersion": PROTOCOL, "decision": "allow"}


def blocked(sentence: str) -> dict[str, Any]:
    """The answer no."""
    return {"protocolVersion": PROTOCOL, "decision": "block", "reason": sentence[:1000]}


async def _check(mirror: Mirror, asked: dict[str, Any]) -> None:
    request, digest = asked.get("request"), asked.get("digest")
    request = request if isinstance(request, dict) else {}
    origin = request.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    if request.get("protocolVersion") != PROTOCOL:
        raise Forbidden("Zaki does not know this way of asking; its operator updates Zaki and OpenClaw together.")
    if origin.get("type") == "doctor":
        # OpenClaw's own trial of the policy, which installs nothing.
        return
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
        return
    async with mirror.database.read() as session:
        same = select(SkillVersion).where(SkillVersion.digest == digest, SkillVersion.verdict == SkillVerdict.PASSED)
        rows = list(await session.scalars(same))
    for row in rows:
        await mirror.version(Reference(skill_name(row.owner, row.slug), row.version))
        return
    raise Forbidden("Zaki has not vetted these files; install the skill from ClawHub, by its name @owner/name.")
