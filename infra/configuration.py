"""Where specifications are read from, and how they are refused."""

from __future__ import annotations

from typing import Protocol

#: Pulumi project, and the namespace of its configuration keys.
PROJECT = "zaki"


class SpecError(ValueError):
    """A specification cannot be used; the message is one sentence that names the value and what to change."""


class Configuration(Protocol):
    """What is read from: `pulumi.Config`, or anything that looks values up alike."""

    def get(self, key: str) -> str | None:
        """The value of a key, without the project's name; None where it is unset."""
