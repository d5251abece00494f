"""The operator's rules: which skills instances may have, whatever vetting says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.skills.names import BadName, Reference, SkillName, checked_slug, checked_version, owner_handle
from bot.store import now
from bot.store.tables import AuditEntry, SkillEffect, SkillRule

#: In the place of a name: every skill.
EVERY = "*"


@dataclass(frozen=True)
class Scope:
    """What a rule is about; empty: any."""

    owner: str = ""
    slug: str = ""
    version: str = ""

    def __str__(self) -> str:
        if not self.owner:
            return EVERY
        name = f"@{self.owner}" + (f"/{self.slug}" if self.slug else "")
        return f"{name}@{self.version}" if self.version else name


def scope(text: str) -> Scope:
    """`*`, `@owner`, `@owner/slug` or `@owner/slug@version`; raises :class:`~bot.skills.names.BadName`."""
    if text.strip() == EVERY:
        return Scope()
    whole, _, version = text.strip().removeprefix("@").partition("@")
    owner, slash, slug = whole.partition("/")
    if version and not slash:
        raise BadName(f"{text[:80]!r} names a version of no skill; write it like @owner/name@1.2.3.")
    return Scope(owner_handle(owner), checked_slug(slug) if slash else "", checked_version(version) if version else "")


async def ruling(session: AsyncSession, reference: Reference) -> SkillRule | None:
    """The narrowest rule that fits a version; None: the operator has none."""
    name = reference.name
    fitting = select(SkillRule).where(
        SkillRule.owner.in_(("", name.owner)),
        SkillRule.slug.in_(("", name.slug)),
        SkillRule.version.in_(("", reference.version)),
    )
    return _narrowest(list(await session.scalars(fitting)))


def denied(rules: Iterable[SkillRule], name: SkillName) -> bool:
    """Whether these rules deny a skill as a whole."""
    fitting = [
        rule for rule in rules if not rule.version and rule.owner in ("", name.owner) and rule.slug in ("", name.slug)
    ]
    rule = _narrowest(fitting)
    return rule is not None and rule.effect == SkillEffect.DENY


async def set_rule(session: AsyncSession, about: Scope, effect: SkillEffect, reason: str) -> None:
    """Make a rule, or change the one that has the same scope."""
    await _remove(session, about)
    session.add(
        SkillRule(
            owner=about.owner,
            slug=about.slug,
            version=about.version,
            effect=effect,
            reason=reason,
            made_at=now(),
        )
    )
    _audit(session, f"skill.{effect}", f"{about}: {reason}" if reason else str(about))


async def remove_rule(session: AsyncSession, about: Scope) -> bool:
    """Take a rule back; False: there is none with this scope."""
    if not await _remove(session, about):
        return False
    _audit(session, "skill.unrule", str(about))
    return True


async def all_rules(session: AsyncSession) -> list[SkillRule]:
    """Every rule, by scope."""
    return list(await session.scalars(select(SkillRule).order_by(SkillRule.owner, SkillRule.slug, SkillRule.version)))


def _narrowest(rules: Iterable[SkillRule]) -> SkillRule | None:
    return max(rules, key=lambda rule: (bool(rule.version), bool(rule.slug), bool(rule.owner)), default=None)


async def _remove(session: AsyncSession, about: Scope) -> int:
    gone = delete(SkillRule).where(
        SkillRule.owner == about.owner, SkillRule.slug == about.slug, SkillRule.version == about.version
    )
    return int(getattr(await session.execute(gone), "rowcount", 0))


def _audit(session: AsyncSession, action: str, detail: str) -> None:
    session.add(AuditEntry(at=now(), instance_id=None, action=action, detail=detail))
