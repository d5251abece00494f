"""Newer versions of what instances have: looked for and vetted ahead, so that whoever updates them knows of one."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import select

from bot.front.skills.errors import SkillError, Unavailable
from bot.front.skills.mirror import Mirror
from bot.store.tables import SkillLock

_log = structlog.get_logger(__name__)

#: Seconds between two questions to the registry, which counts them for all instances together.
BETWEEN = 1.0


async def look_for_newer(mirror: Mirror, between: float = BETWEEN) -> int:
    """Ask after every skill that an instance has; how many could be asked about. One that is refused keeps no other."""
    names = select(SkillLock.owner, SkillLock.slug).distinct().order_by(SkillLock.owner, SkillLock.slug)
    async with mirror.database.read() as session:
        found = (await session.execute(names)).all()
    asked = 0
    for owner, slug in found:
        try:
            await mirror.latest(await mirror.skill(slug, owner))
            asked += 1
        except Unavailable as error:
            _log.warning("newer versions of skills were not looked for", reason=error.sentence)
            break
        except SkillError as error:
            _log.info("a skill has no newer version", skill=f"@{owner}/{slug}", reason=error.sentence)
        except Exception:
            if mirror.database.trouble.reason is not None:
                raise
            # Whatever it is in this one, those after it would be looked at in no round.
            _log.exception("a skill could not be looked after", skill=f"@{owner}/{slug}")
        await asyncio.sleep(between)
    return asked
