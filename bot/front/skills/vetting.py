"""The checks that a version passes before it is served, and the reasons of those that it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bot.front.skills.archive import BadArchive, Bundle, read_bundle
from bot.front.skills.lookalikes import lookalike
from bot.front.skills.manifest import BadManifest, Manifest, read_manifest
from bot.front.skills.opinions import Opinion, Standing
from bot.front.skills.scan import scan
from bot.skills.names import SkillName


class Check(StrEnum):
    """Who has a reason."""

    RULE = "rule"  #: the operator
    REGISTRY = "registry"  #: its security check
    NAME = "name"
    ARCHIVE = "archive"
    DIGEST = "digest"  #: the bytes are not what they were, or not what the registry lists
    CONTENT = "content"  #: static checks
    MANIFEST = "manifest"


@dataclass(frozen=True)
class Reason:
    """Why a version is refused, or would be."""

    check: Check
    #: One sentence.
    says: str
    #: Whether a rule of the operator's that allows the skill sets it aside: it is a judgement, and breaks nothing.
    yields: bool = False
    #: Whether asking again later may give another answer.
    passing: bool = False


@dataclass(frozen=True)
class Inspected:
    """An archive that was looked into."""

    bundle: Bundle | None
    manifest: Manifest
    #: The archive that is served in its place.
    packed: bytes
    reasons: list[Reason]

    @classmethod
    def refused(cls, reason: Reason) -> Inspected:
        """One that nobody needs to look into."""
        return cls(None, Manifest("", ""), b"", [reason])


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


def inspect(path: Path, listed: Mapping[str, str], before: Mapping[str, str] | None) -> Inspected:
    """Look into an archive. It blocks for up to a few seconds.

    `listed`: SHA-256 (hex) by path as the registry lists the files, as far as it does; `before`: what the files were
    when this version was looked at first; None: never.
    """
    try:
        bundle = read_bundle(path)
    except BadArchive as bad:
        return Inspected.refused(Reason(Check.ARCHIVE, str(bad)))
    reasons = [*_unlike(bundle, listed, before)]
    reasons += [Reason(Check.CONTENT, says, yields=True) for says in scan(bundle)]
    try:
        manifest = read_manifest(bundle)
    except BadManifest as bad:
        manifest = Manifest("", "")
        reasons.append(Reason(Check.MANIFEST, str(bad)))
    return Inspected(bundle, manifest, bundle.pack(), reasons)


def _unlike(bundle: Bundle, listed: Mapping[str, str], before: Mapping[str, str] | None) -> Iterable[Reason]:
    mine = bundle.hashes
    if before is not None:
        changed = sorted(path for path in {*before, *mine} if before.get(path) != mine.get(path))
        if changed:
            yield Reason(
                Check.DIGEST, f"ClawHub now gives other bytes under this version than before ({changed[0]!a})."
            )
            return
    wrong = sorted(path for path, sha256 in listed.items() if mine.get(path) != sha256)
    if wrong:
        yield Reason(Check.DIGEST, f"Its archive is not what ClawHub lists for this version ({wrong[0]!a}).")


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
