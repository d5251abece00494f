"""What the stand-in has, and what was asked of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bot.skills.digests import fingerprint
from bot.standins.registry.archives import pack
from bot.standins.registry.faults import EVERYTHING, Fault

#: When the first version of all was published, milliseconds.
_EPOCH = 1_767_225_600_000
_DAY = 86_400_000


@dataclass
class Release:
    """A version."""

    version: str
    #: What is in it; empty where `archive` makes something odd.
    files: dict[str, bytes] = field(default_factory=dict)
    #: Makes the archive, where it is none of plain files.
    archive: Callable[[], bytes] | None = None
    #: `clean`, `suspicious`, `malicious`, `pending`, `stale`: the security check's verdict.
    status: str = "clean"
    reasons: tuple[str, ...] = ()
    changelog: str = ""

    @cached_property
    def content(self) -> bytes:
        """The archive, with the note that ClawHub itself puts in."""
        return self.archive() if self.archive is not None else self.archived()

    def archived(self) -> bytes:
        """The files in an archive."""
        meta = json.dumps({"version": self.version}).encode()
        return pack({**self.files, "_meta.json": meta})

    @property
    def listed(self) -> list[dict[str, Any]]:
        """The files as ClawHub lists them."""
        return [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in self.files.items()
        ]


@dataclass
class Published:
    """A skill."""

    owner: str
    slug: str
    title: str
    summary: str
    #: The oldest first.
    releases: list[Release]
    downloads: int = 0

    @property
    def name(self) -> str:
        """`@owner/slug`."""
        return f"@{self.owner}/{self.slug}"

    @property
    def latest(self) -> Release:
        """The newest version."""
        return self.releases[-1]

    def find(self, version: str) -> Release | None:
        """A version."""
        return next((release for release in self.releases if release.version == version), None)

    def published_at(self, release: Release) -> int:
        """When, milliseconds."""
        return _EPOCH + _DAY * self.releases.index(release)


class Registry:
    """Skills, faults, and counts; the app in front of it holds nothing."""

    def __init__(self, skills: Iterable[Published] = ()) -> None:
        self.skills = {skill.name: skill for skill in skills}
        #: By `@owner/slug`, or `*`.
        self.faults: dict[str, Fault] = {}
        #: Archives that were given out, by `@owner/slug@version`.
        self.downloads: Counter[str] = Counter()
        #: Requests by path.
        self.requests: Counter[str] = Counter()

    def publish(self, skill: Published) -> None:
        """Add a skill, or put another in its place."""
        self.skills[skill.name] = skill

    def remove(self, name: str) -> None:
        """It disappears."""
        del self.skills[name]

    def turn(self, name: str, version: str, status: str, *reasons: str) -> None:
        """The security check changes its mind."""
        release = self.skills[name].find(version)
        assert release is not None, f"{name} has no {version}"  # noqa: S101 - a caller's mistake
        release.status, release.reasons = status, reasons

    def named(self, slug: str, owner: str | None) -> list[Published]:
        """The skills of that name."""
        return [skill for skill in self.skills.values() if skill.slug == slug and owner in (None, skill.owner)]

    def search(self, words: str) -> list[tuple[float, Published]]:
        """By the words that a skill's name and summary share with these, the best first."""
        wanted = set(re.findall(r"[a-z0-9]+", words.lower()))
        found = []
        for skill in self.skills.values():
            name = set(re.findall(r"[a-z0-9]+", f"{skill.slug} {skill.title}".lower()))
            about = set(re.findall(r"[a-z0-9]+", skill.summary.lower()))
            score = 1.0 * len(wanted & name) + 0.5 * len(wanted & about)
            if score:
                found.append((score, skill))
        return sorted(found, key=lambda one: (-one[0], -one[1].downloads, one[1].name))

    def fault(self, name: str | None) -> Fault:
        """What a request about this skill meets; None: about no one skill."""
        nothing = Fault()
        return self.faults.get(name or "", self.faults.get(EVERYTHING, nothing))

    def resolve(self, skill: Published, wanted: str) -> Release | None:
        """The version whose files have this fingerprint."""
        for release in skill.releases:
            hashes = {str(file["path"]): str(file["sha256"]) for file in release.listed}
            if release.files and wanted in (fingerprint(hashes), fingerprint({**hashes, **_generated(release)})):
                return release
        return None


def _generated(release: Release) -> dict[str, str]:
    meta = json.dumps({"version": release.version}).encode()
    return {"_meta.json": hashlib.sha256(meta).hexdigest()}
