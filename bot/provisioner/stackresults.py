"""What comes of bringing a stack up, previewing it, or failing to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class StackError(Exception):
    """A stack is not as it was asked for; the message is one sentence."""


class StackBusy(StackError):
    """Somebody else is at work on the stack; try again when they are done."""


class StackTimeout(StackError):
    """The engine did not end in time and was stopped; the next `up` repairs what it left."""


class StackFailed(StackError):
    """The engine, its program or Docker refused."""

    def __init__(self, sentence: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        #: The last lines of the engine's diagnostics, without secrets.
        self.details = details


class StackRefused(StackFailed):
    """The program's own rules refuse what the stack asks for."""


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """An instance's stack after `up`."""

    #: Docker's id of the container.
    container: str
    volume: str
    address: str
    image: str
    #: How many resources were created, updated, left the same …, by Pulumi's names of operations.
    changes: Mapping[str, int]

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return _changed(self.changes)


@dataclass(frozen=True, slots=True)
class HostOutputs:
    """A host's stack after `up`."""

    network: str
    #: What was written to `host_file`: JSON, as `bot.hostfacts` reads it.
    facts: str
    host_file: Path
    changes: Mapping[str, int]

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return _changed(self.changes)


@dataclass(frozen=True, slots=True)
class StackPreview:
    """What an `up` would do."""

    changes: Mapping[str, int]
    #: The engine's own words.
    text: str

    @property
    def changed(self) -> bool:
        """Whether anything would be done."""
        return _changed(self.changes)

    @property
    def summary(self) -> str:
        """One line, for example `1 create, 3 same`."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.changes.items())) or "no resources"


def _changed(changes: Mapping[str, int]) -> bool:
    return any(count for name, count in changes.items() if name not in ("same", "read"))
