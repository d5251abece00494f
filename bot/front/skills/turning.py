"""What was served and turned bad: the registry's verdicts asked for again, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import metrics
from bot.front.skills import opinions, vetting
from bot.front.skills.keeping import Keeping
from bot.front.skills.opinions import Opinion
from bot.front.skills.opinions import Standing as Opined
from bot.front.skills.standing import audited, reference_of, standing
from bot.front.skills.upstream import Upstream
from bot.skills import recalls
from bot.skills.names import Reference
from bot.skills.reasons import Reason
from bot.skills.recalls import Recalled
from bot.store import Database, now
from bot.store.tables import SkillLock, SkillVerdict, SkillVersion

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Change:
    """A version that is served no longer since the registry was asked again."""

    reference: Reference
    #: One sentence.
    says: str
    #: None: those who have it keep it.
    recalled: Recalled | None
    #: How many instances have it, or may have.
    instances: int


async def check_again(upstream: Upstream, database: Database, keeping: Keeping) -> list[Change]:
    """Ask about every version that is served or that an instance has; what changed.

    Where the registry says nothing clear of a version, nothing changes for it: an answer that is broken breaks for all
    versions at once, and would take everything from everybody.

    Raises :class:`~bot.front.skills.errors.SkillError` where the registry is away, which changes nothing.
    """
    having = exists().where(
        SkillLock.owner == SkillVersion.owner,
        SkillLock.slug == SkillVersion.slug,
        SkillLock.version == SkillVersion.version,
    )
    there = or_(SkillVersion.verdict == SkillVerdict.PASSED, and_(SkillVersion.verdict == SkillVerdict.REFUSED, having))
    async with database.read() as session:
        rows = list(await session.scalars(select(SkillVersion).where(there).order_by(SkillVersion.checked_at)))
    references = [reference_of(row) for row in rows]
    changes = []
    for first in range(0, len(references), opinions.BATCH):
        found = await opinions.ask(upstream, references[first : first + opinions.BATCH])
        unclear = [str(reference) for reference, opinion in found.items() if opinion.standing is Opined.UNCLEAR]
        if unclear:
            _log.warning("the registry says nothing clear of skills", count=len(unclear), skills=unclear[:5])
        for reference, opinion in found.items():
            change = await _judge_again(database, reference, opinion)
            if change is not None:
                changes.append(change)
                await keeping.discard(change.recalled.archives if change.recalled else ())
    return changes


def turned(opinion: Opinion) -> bool:
    """Whether it says that nobody should have it."""
    return opinion.standing in (Opined.MALICIOUS, Opined.DOUBTFUL)


async def turn_bad(session: AsyncSession, row: SkillVersion, opinion: Opinion, reasons: list[Reason]) -> Change:
    """A version that was served is recalled, or only served no longer.

    Who removes a skill may be its author, a moderator, or a scanner still at work: then those who have it keep it,
    and the operator decides.
    """
    reference = reference_of(row)
    if not turned(opinion):
        having = select(func.count()).select_from(SkillLock)
        having = having.where(
            SkillLock.owner == row.owner, SkillLock.slug == row.slug, SkillLock.version == row.version
        )
        count = await session.scalar(having) or 0
        row.verdict, row.reasons = SkillVerdict.REFUSED, vetting.as_json(reasons, allowed=False)
        session.add(audited("skill.withdrawn", f"{reference}: {opinion.says}"))
        return Change(reference, opinion.says, recalled=None, instances=int(count))
    done = await recalls.recall(session, reference.name, reference.version, opinion.says, "verdict")
    row.reasons = vetting.as_json(reasons, allowed=False)
    metrics.SKILL_RECALLS.inc()
    return Change(reference, opinion.says, done, len(done.instances))


async def _judge_again(database: Database, reference: Reference, opinion: Opinion) -> Change | None:
    reasons = vetting.of_registry(opinion)
    async with database.write() as session:
        now_stands = await standing(session, reference)
        row = now_stands.row
        if row is None or row.verdict == SkillVerdict.RECALLED or opinion.standing is Opined.UNCLEAR:
            return None
        # Who has it has it, whatever it was refused for first.
        if row.verdict == SkillVerdict.REFUSED and not turned(opinion):
            return None
        row.checked_at, row.upstream = now(), opinion.as_json()
        if not vetting.refuses(reasons, allowed=now_stands.allowed):
            return None
        return await turn_bad(session, row, opinion, reasons)
