"""Why a version of a skill is refused, or would be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """Who has a reason."""

    REGISTRY = "registry"  #: its security check
    NAME = "name"
    ARCHIVE = "archive"
    DIGEST = "digest"  #: the bytes are not what they were, or not what the registry lists
    CONTENT = "content"  #: static checks
    MANIFEST = "manifest"


@dataclass(frozen=True)
class Reason:
    """One of them."""

    check: Check
    #: One sentence.
    says: str
    #: Whether a rule of the operator's that allows the skill sets it aside: it is a judgement, and breaks nothing.
    yields: bool = False
    #: Whether asking again later may give another answer.
    passing: bool = False
