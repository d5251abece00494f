"""What is found in an archive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.skills.inspection.archive import BadArchive, Bundle, read_bundle
from bot.skills.inspection.manifest import BadManifest, read_manifest
from bot.skills.inspection.scan import scan
from bot.skills.reasons import Check, Reason


@dataclass(frozen=True)
class Inspected:
    """An archive that was looked into."""

    reasons: list[Reason]
    #: OpenClaw's digest of the unpacked folder; None: nobody could look inside.
    digest: str | None = None
    #: The `clawhub` client's hash of the files.
    fingerprint: str | None = None
    #: `[{"path", "size", "sha256"}]`.
    files: list[dict[str, Any]] = field(default_factory=list)
    #: What it asks for: lists by kind.
    needs: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """To be read by :meth:`from_json`."""
        reasons = [[reason.check, reason.says, reason.yields, reason.passing] for reason in self.reasons]
        return {**vars(self), "reasons": reasons}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Inspected:
        """The findings; raises TypeError, ValueError or KeyError where that is none."""
        reasons = [Reason(Check(check), says, yields, passing) for check, says, yields, passing in found["reasons"]]
        return cls(**{**found, "reasons": reasons})


def inspect(archive: Path, packed: Path, listed: Mapping[str, str], before: Mapping[str, str] | None) -> Inspected:
    """Look into an archive, and write the one that is served in its place to `packed`. It blocks for seconds.

    `listed`: SHA-256 (hex) by path as the registry lists the files, without what it puts in itself; `before`: what the
    files were when this version was looked at first; None: never.
    """
    try:
        bundle = read_bundle(archive)
    except BadArchive as bad:
        return Inspected([Reason(Check.ARCHIVE, str(bad))])
    reasons = [*_unlike(bundle, listed, before)]
    reasons += [Reason(Check.CONTENT, says, yields=True) for says in scan(bundle)]
    needs: dict[str, list[str]] = {}
    try:
        needs = read_manifest(bundle).needs
    except BadManifest as bad:
        reasons.append(Reason(Check.MANIFEST, str(bad)))
    packed.write_bytes(bundle.pack())
    files = [
        {"path": path, "size": len(content), "sha256": bundle.hashes[path]}
        for path, content in sorted(bundle.files.items())
    ]
    return Inspected(reasons, bundle.digest, bundle.fingerprint, files, needs)


def _unlike(bundle: Bundle, listed: Mapping[str, str], before: Mapping[str, str] | None) -> Iterable[Reason]:
    mine = bundle.hashes
    if before is not None:
        changed = sorted(path for path in {*before, *mine} if before.get(path) != mine.get(path))
        if changed:
            yield Reason(
                Check.DIGEST, f"ClawHub now gives other bytes under this version than before ({changed[0]!a})."
            )
            return
    # ClawHub makes each archive of exactly the files that it lists, whatever their kind (its convex/downloads.ts), and
    # adds what is in `GENERATED`: what it does not list was never looked at by its security check.
    if not listed:
        yield Reason(Check.DIGEST, "ClawHub does not list this version's files, so none can be compared.", passing=True)
        return
    wrong = sorted(path for path in {*listed, *mine} if listed.get(path) != mine.get(path))
    if wrong:
        yield Reason(Check.DIGEST, f"Its archive is not what ClawHub lists for this version ({wrong[0]!a}).")
