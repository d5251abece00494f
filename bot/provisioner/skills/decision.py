"""What to do about one skill of one instance: decided by one pure function from what is wished, there and known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from bot.skills.names import SkillName
from bot.skills.needs import Needs, new_needs
from bot.store.tables import SkillPolicy, SkillSource, SkillStatus

#: Seconds after which what failed is tried again by itself.
AGAIN = 6 * 3600.0
#: Seconds after which an update that broke off is, so that it keeps no instance from sleeping.
_SOON = 60.0


@dataclass(frozen=True)
class Wished:
    """A skill that somebody wants there, or does not."""

    name: SkillName
    present: bool
    policy: SkillPolicy
    #: Exactly this version; None: the newest that passed.
    version: str | None
    #: The version whose needs its person was shown and agreed to; None: none.
    approved: str | None
    source: SkillSource
    asked_at: float


@dataclass(frozen=True)
class Version:
    """A version that passed."""

    version: str
    needs: Needs


@dataclass(frozen=True)
class Present:
    """How the skill stands there, as far as the database knows."""

    #: What was seen there last; None: nothing.
    version: str | None = None
    #: Whether the instance fetched a version by itself.
    fetched: bool = False
    status: SkillStatus | None = None
    offered: str | None = None
    updated_at: float = 0.0
    #: What the version that is there needs.
    needs: Needs = field(default_factory=dict)


class Act(StrEnum):
    """What is done next."""

    NOTHING = "nothing"
    INSTALL = "install"
    UPDATE = "update"
    REMOVE = "remove"
    ASK = "ask"
    SETTLE = "settle"  #: it is there, and nothing else is to be said of it
    FAIL = "fail"


@dataclass(frozen=True)
class Step:
    """One of them."""

    name: SkillName
    act: Act
    #: What becomes of it, or is asked about; None: the newest that the mirror gives.
    version: str | None = None
    #: What the version newly needs.
    asks: Needs | None = None
    #: One sentence, where it fails.
    says: str = ""
    #: Whether a person waits for it, so that it is not left for later.
    urgent: bool = False


def decide(wished: Wished, present: Present, versions: Sequence[Version], clash: SkillName | None, now: float) -> Step:
    """What is done about the skill now.

    `versions`: those that passed. `clash`: another publisher's skill of the same name that is there.
    """
    name = wished.name
    urgent = wished.source is not SkillSource.PLAN
    nothing = Step(name, Act.NOTHING)
    if present.status is SkillStatus.FAILED and max(wished.asked_at, now - AGAIN) < present.updated_at <= now:
        return nothing
    broke_off = present.status is SkillStatus.INSTALLING and present.version is not None
    if broke_off and max(wished.asked_at, now - _SOON) < present.updated_at <= now:
        return nothing
    if not wished.present:
        owed = present.status is SkillStatus.REMOVING and present.offered is not None and present.version is None
        gone = present.version is None and not present.fetched and (present.status is None or owed)
        return nothing if gone else Step(name, Act.REMOVE, present.version, urgent=urgent)
    if present.version is None:
        if clash is not None:
            says = f"The skill {clash} has the same name; remove that one first."
            return Step(name, Act.FAIL, wished.version, says=says)
        # What its person was shown, and no newer one that may ask for more.
        return Step(name, Act.INSTALL, wished.version or wished.approved, urgent=urgent)
    wanted = _wanted(wished, present.version, versions)
    if wanted is None or wanted.version == present.version:
        settled = present.status is SkillStatus.INSTALLED
        return nothing if settled else Step(name, Act.SETTLE, present.version)
    # Who pinned it knows which version they want; a plan's pin is the operator's, who agrees to nothing for others.
    if wished.policy is SkillPolicy.PIN and wished.source is not SkillSource.PLAN:
        return Step(name, Act.UPDATE, wanted.version, urgent=urgent)
    asks = new_needs(present.needs, wanted.needs)
    if asks and wished.approved != wanted.version:
        if present.status is SkillStatus.ASKS and present.offered == wanted.version:
            return nothing
        return Step(name, Act.ASK, wanted.version, asks)
    # Whoever has just agreed waits for it.
    return Step(name, Act.UPDATE, wanted.version, urgent=bool(asks))


def order(version: str) -> tuple[tuple[int, ...], bool, str] | None:
    """By what versions are ordered, those for trial before the one that they lead to; None: it cannot be told."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})(?:[-+](.*))?\Z", version)
    if found is None:
        return None
    numbers = (*map(int, found[1].split(".")), 0, 0, 0)[:4]
    return numbers, "-" not in version, found[2] or ""


def _wanted(wished: Wished, installed: str, versions: Sequence[Version]) -> Version | None:
    """The version that should take the place of the installed one."""
    if wished.policy is SkillPolicy.PIN:
        if wished.version is None or wished.source is not SkillSource.PLAN:
            return Version(wished.version, {}) if wished.version is not None else None
        # Before it was vetted nobody knows what it needs.
        return next((each for each in versions if each.version == wished.version), None)
    here = order(installed)
    if here is None:
        return None
    newer = []
    for each in versions:
        there = order(each.version)
        if there is None or there <= here or not there[1]:
            continue
        if wished.policy is SkillPolicy.LATEST or there[0][:2] == here[0][:2]:
            newer.append((there, each))
    return max(newer, key=lambda pair: pair[0])[1] if newer else None
