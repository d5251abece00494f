"""Names of skills: `@owner/slug`, and `@owner/slug@version` for one version."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What OpenClaw's own client takes for an owner (`clawhub-store`, 2026.9.6).
_OWNER = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,38}[a-z0-9])?\Z")
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}\Z")


class BadName(ValueError):
    """A name is none of a skill's; the message says what to write."""


@dataclass(frozen=True, order=True)
class SkillName:
    """A skill of the registry's."""

    owner: str
    slug: str

    def __str__(self) -> str:
        return f"@{self.owner}/{self.slug}"


@dataclass(frozen=True, order=True)
class Reference:
    """One version of a skill."""

    name: SkillName
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def skill_name(owner: str, slug: str) -> SkillName:
    """The name, with the owner as the registry writes it; raises :class:`BadName`."""
    return SkillName(owner_handle(owner), checked_slug(slug))


def owner_handle(text: str) -> str:
    """A publisher's handle without its `@`; raises :class:`BadName`."""
    owner = text.strip().removeprefix("@").lower()
    if not _OWNER.match(owner) or ".." in owner:
        raise BadName(f"{text[:80]!r} is no publisher; write it like @owner.")
    return owner


def checked_slug(text: str) -> str:
    """The slug; raises :class:`BadName` where it could be a path, or has letters that look like others."""
    slug = text.strip()
    if not _SLUG.match(slug) or ".." in slug:
        raise BadName(f"{text[:80]!r} is no name of a skill: it has lower-case letters, digits and hyphens.")
    return slug


def checked_version(text: str) -> str:
    """The version; raises :class:`BadName`."""
    version = text.strip()
    if not _VERSION.match(version) or ".." in version:
        raise BadName(f"{text[:80]!r} is no version; write it like 1.2.3.")
    return version


def parse(text: str) -> tuple[SkillName, str | None]:
    """`@owner/slug` or `@owner/slug@version`; raises :class:`BadName`."""
    whole, _, version = text.strip().removeprefix("@").partition("@")
    owner, slash, slug = whole.partition("/")
    if not slash:
        raise BadName(f"{text[:80]!r} does not say whose skill it is; write it like @owner/name.")
    return skill_name(owner, slug), checked_version(version) if version else None
