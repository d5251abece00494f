"""What the registry's own security check says of a version: a pass only where nothing about it is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bot.front.skills.upstream import Upstream
from bot.skills.names import Reference

#: Items in one question (docs/http-api.md).
BATCH = 100
_PATH = "/api/v1/skills/-/security-verdicts"
#: The check is still to come, or to be repeated.
_PENDING = frozenset({"pending", "pending_scan", "scan_pending", "scan:pending", "stale", "stale_scan", "scan:stale"})
#: It looked, and says not to have it. Whatever else is no pass says nothing about the version.
_BAD = frozenset({"suspicious", "vulnerable", "flagged", "quarantined", "revoked"})
_NOT_FOUND = frozenset({"skill_not_found", "version_not_found", "skill.not_found", "version.not_found"})


class Standing(StrEnum):
    """What it comes to."""

    CLEAN = "clean"
    PENDING = "pending"  #: not checked yet
    DOUBTFUL = "doubtful"  #: checked, and suspicious
    UNCLEAR = "unclear"  #: no answer that holds: nothing new is served for it, and nothing is taken back
    MALICIOUS = "malicious"
    GONE = "gone"  #: the registry has no such skill or version any more


@dataclass(frozen=True)
class Opinion:
    """The registry's verdict of one version."""

    standing: Standing
    #: One sentence.
    says: str
    status: str = ""
    reasons: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the version's row."""
        return {"standing": self.standing, "status": self.status, "reasons": self.reasons}


async def ask(upstream: Upstream, references: Sequence[Reference]) -> dict[Reference, Opinion]:
    """An opinion on each; raises :class:`~bot.front.skills.errors.SkillError` where the registry is away."""
    found: dict[Reference, Opinion] = {}
    for first in range(0, len(references), BATCH):
        batch = references[first : first + BATCH]
        items = [{"slug": one.name.slug, "ownerHandle": one.name.owner, "version": one.version} for one in batch]
        answer = await upstream.post(_PATH, {"items": items})
        verdicts = answer.get("items")
        found.update(_correlate(batch, verdicts if isinstance(verdicts, list) else []))
    return found


def _correlate(batch: Sequence[Reference], verdicts: list[Any]) -> dict[Reference, Opinion]:
    """Each version with the one item that answers for it, and for nothing else."""
    by_key: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for item in verdicts[: 2 * BATCH]:
        if isinstance(item, dict):
            owner, slug = _handle(item, "requestedOwnerHandle"), _word(item, "requestedSlug").lower()
            key = (owner, slug, _word(item, "requestedVersion"))
            by_key.setdefault(key, []).append(item)
    found = {}
    for reference in batch:
        key = (reference.name.owner, reference.name.slug, reference.version)
        items = by_key.get(key) or by_key.get(("", *key[1:]), [])
        found[reference] = read(reference, items[0] if len(items) == 1 else None)
    return found


def read(reference: Reference, item: dict[str, Any] | None) -> Opinion:
    """What an item means; unclear unless it says something, about the publisher and version that were asked for."""
    if item is None:
        return Opinion(Standing.UNCLEAR, "ClawHub's security check says nothing clear of it.")
    security = item.get("security")
    security = security if isinstance(security, dict) else {}
    status = (_word(security, "status") or _word(security, "rawStatus")).lower()
    listed = item.get("reasons")
    reasons = [str(one)[:100] for one in listed[:20] if isinstance(one, str)] if isinstance(listed, list) else []
    error = item.get("error")
    code = _word(error, "code") if isinstance(error, dict) else ""
    plain = [one.lower() for one in reasons]
    listing = ", ".join(reasons) or status or "without a reason"

    def opinion(standing: Standing, says: str) -> Opinion:
        return Opinion(standing, says, status, reasons)

    asked = (reference.name.slug, reference.version, reference.name.owner)
    answered = (_word(item, "slug").lower(), _word(item, "version"), _handle(item, "publisherHandle"))
    if any(one not in ("", wanted) for one, wanted in zip(answered, asked, strict=True)):
        return opinion(Standing.UNCLEAR, "ClawHub's security check answers for another publisher, skill or version.")
    blocked = _word(item, "decision").lower() == "blocked" or any(map(_blocks, plain))
    if status == "malicious" or (blocked and not error):
        listing = f" ({', '.join(reasons)})" if reasons else ""
        return opinion(Standing.MALICIOUS, f"ClawHub's security check calls it malicious{listing}.")
    if code in _NOT_FOUND or not _NOT_FOUND.isdisjoint(plain):
        return opinion(Standing.GONE, "ClawHub no longer has it.")
    if error:
        return opinion(Standing.UNCLEAR, f"ClawHub's security check failed for it ({code or 'without a reason'}).")
    if status in _BAD:
        return opinion(Standing.DOUBTFUL, f"ClawHub's security check did not pass it ({listing}).")
    if answered != asked:
        return opinion(Standing.UNCLEAR, "ClawHub's security check does not say for which version it answers.")
    passed = item.get("ok") is True and _word(item, "decision").lower() == "pass"
    if passed and status and security.get("passed") is True:
        return opinion(Standing.CLEAN, "ClawHub's security check passed it.")
    if status in _PENDING or any(one in _PENDING for one in plain):
        return opinion(Standing.PENDING, "ClawHub's security check has not looked at it yet.")
    return opinion(Standing.UNCLEAR, f"ClawHub's security check did not pass it ({listing}).")


def _blocks(reason: str) -> bool:
    return (
        "malicious" in reason or "malware" in reason or reason == "blocked" or reason.endswith(("_blocked", ".blocked"))
    )


def _word(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return value.strip()[:200] if isinstance(value, str) else ""


def _handle(record: dict[str, Any], name: str) -> str:
    return _word(record, name).lower().removeprefix("@")
