"""What is thought of a version before anybody looks inside, and what the reasons come to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bot.front.skills.lookalikes import lookalike
from bot.front.skills.opinions import Opinion, Standing
from bot.skills.names import SkillName
from bot.skills.reasons import Check, Reason


def of_registry(opinion: Opinion) -> list[Reason]:
    """What the registry's verdict comes to; one that says malicious holds against the operator's own rules."""
    if opinion.standing is Standing.CLEAN:
        return []
    final = opinion.standing in (Standing.MALICIOUS, Standing.GONE)
    return [Reason(Check.REGISTRY, opinion.says, yields=not final, passing=opinion.standing is not Standing.MALICIOUS)]


def of_name(name: SkillName, display_name: str, known: Iterable[SkillName]) -> list[Reason]:
    """Whether the name is made to be taken for another."""
    says = lookalike(name, display_name, known)
    return [Reason(Check.NAME, says, yields=True)] if says else []


def refuses(reasons: Iterable[Reason], *, allowed: bool) -> bool:
    """Whether something stays; `allowed`: the operator has a rule that allows the skill."""
    return any(not (allowed and reason.yields) for reason in reasons)


def as_json(reasons: Iterable[Reason], *, allowed: bool) -> list[dict[str, Any]]:
    """For the version's row."""
    return [
        {
            "check": reason.check,
            "says": reason.says,
            "overruled": allowed and reason.yields,
            "passing": reason.passing,
        }
        for reason in reasons
    ]
