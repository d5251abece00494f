"""How a version stands: its row, a recall, the operator's rule; and the sentences about that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.skills.errors import Forbidden, SkillError, TakenBack
from bot.skills import recalls, rules
from bot.skills.names import Reference, SkillName
from bot.store import now
from bot.store.tables import (
    AuditEntry,
    Skill,
    SkillEffect,
    SkillLock,
    SkillRecall,
    SkillRule,
    SkillVerdict,
    SkillVersion,
)

#: Seconds after which a version that was refused for a reason that may pass is looked at again.
AGAIN = 600.0
#: Skills whose names are held for known, the most used first, and how many instances must have one: a single tenant
#: could else make a name known, and so keep the genuine one of a name like it from everybody.
_KNOWN = 500
_FEWEST = 3


@dataclass(frozen=True)
class Standing:
    """What is known of one version."""

    reference: Reference
    row: SkillVersion | None
    recall: SkillRecall | None
    rule: SkillRule | None

    @property
    def allowed(self) -> bool:
        """Whether the operator allows it, whatever is thought of it."""
        return self.rule is not None and self.rule.effect == SkillEffect.ALLOW

    def refuse_by_hand(self) -> None:
        """Raise where it was recalled or the operator does not allow it."""
        if self.recall is not None:
            raise TakenBack(taken_back(self.reference, self.recall))
        if self.rule is not None and self.rule.effect == SkillEffect.DENY:
            because = f": {self.rule.reason}" if self.rule.reason else "."
            raise Forbidden(f"Zaki's operator does not allow {self.reference}{because}")

    def servable(self) -> SkillVersion | None:
        """The row where it may be served; None: it has to be fetched and vetted. Raises where it may not."""
        self.refuse_by_hand()
        row = self.row
        if row is None:
            return None
        if row.verdict == SkillVerdict.PASSED:
            if not self.allowed and any(reason["overruled"] for reason in row.reasons):
                raise Forbidden(refusal(row))
            return row if row.archive is not None else None
        # A recall that was lifted, a rule that came since, or reasons that may have passed.
        again = row.verdict == SkillVerdict.RECALLED or (self.rule is not None and self.rule.made_at > row.vetted_at)
        passing = bool(row.reasons) and all(reason["passing"] for reason in row.reasons)
        if again or (passing and row.checked_at < now() - AGAIN):
            return None
        raise Forbidden(refusal(row))


async def standing(session: AsyncSession, reference: Reference) -> Standing:
    """How a version stands now."""
    name = reference.name
    row = await session.get(SkillVersion, (name.owner, name.slug, reference.version))
    return Standing(reference, row, await recalls.in_force(session, reference), await rules.ruling(session, reference))


async def newest_kept(session: AsyncSession, name: SkillName) -> SkillVersion | None:
    """The newest version that may be served as it is kept; None: there is none."""
    passed = select(SkillVersion).where(
        SkillVersion.owner == name.owner, SkillVersion.slug == name.slug, SkillVersion.verdict == SkillVerdict.PASSED
    )
    for row in await session.scalars(passed.order_by(SkillVersion.published_at.desc())):
        served = await _served(session, reference_of(row))
        if served is not None:
            return served
    return None


async def newest(session: AsyncSession, name: SkillName) -> SkillVersion | None:
    """The version that whoever asks for the skill gets, as far as that is known without the registry."""
    skill = await session.get(Skill, (name.owner, name.slug))
    latest = skill.latest if skill is not None else None
    served = await _served(session, Reference(name, latest)) if latest is not None else None
    return served or await newest_kept(session, name)


async def _served(session: AsyncSession, reference: Reference) -> SkillVersion | None:
    try:
        return (await standing(session, reference)).servable()
    except SkillError:
        return None


async def unwanted(session: AsyncSession, names: Iterable[SkillName]) -> set[SkillName]:
    """Those of which no version may be installed, as far as that is known without fetching one."""
    names = set(names)
    slugs = {name.slug for name in names}
    recalled = select(SkillRecall.owner, SkillRecall.slug).where(
        SkillRecall.slug.in_(slugs), SkillRecall.version.is_(None), SkillRecall.lifted_at.is_(None)
    )
    versions = select(SkillVersion.owner, SkillVersion.slug, SkillVersion.verdict).where(SkillVersion.slug.in_(slugs))
    found = {SkillName(owner, slug) for owner, slug in await session.execute(recalled)}
    made = await rules.all_rules(session)
    verdicts: dict[SkillName, set[str]] = {}
    for owner, slug, verdict in await session.execute(versions):
        verdicts.setdefault(SkillName(owner, slug), set()).add(verdict)
    found |= {name for name in names if rules.denied(made, name)}
    return found | {name for name, all_of_it in verdicts.items() if SkillVerdict.PASSED not in all_of_it}


async def trusted_names(session: AsyncSession, beside: SkillName) -> set[SkillName]:
    """Skills that several instances have, the most used first, and others that the operator allows by name."""
    having = func.count(SkillLock.instance_id.distinct())
    used = select(SkillLock.owner, SkillLock.slug).group_by(SkillLock.owner, SkillLock.slug).having(having >= _FEWEST)
    rows = await session.execute(used.order_by(having.desc()).limit(_KNOWN))
    found = {SkillName(owner, slug) for owner, slug in rows}
    for rule in await rules.all_rules(session):
        name = SkillName(rule.owner, rule.slug)
        if rule.effect == SkillEffect.ALLOW and rule.owner and rule.slug and name != beside:
            found.add(name)
    return found


def reference_of(row: SkillVersion) -> Reference:
    """The version that a row is about."""
    return Reference(SkillName(row.owner, row.slug), row.version)


def refusal(row: SkillVersion) -> str:
    """Why a version is not served, for whoever asked for it."""
    says = " ".join(str(reason["says"]) for reason in row.reasons)
    return f"Zaki does not install {reference_of(row)}. {says}".strip()


def taken_back(reference: Reference, recall: SkillRecall) -> str:
    """Why a version must not be used any more."""
    return f"{reference} was recalled and must not be used: {recall.reason}"


def audited(action: str, detail: str) -> AuditEntry:
    """An entry about a skill, of no instance's."""
    return AuditEntry(at=now(), instance_id=None, action=action, detail=detail[:2000])
