"""Follows a run of the Pulumi engine by its events."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pulumi.automation.events import EngineEvent

_COLOUR = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*m")
#: Bot tokens, model keys, and the password in a URL.
_SECRET = re.compile(
    r"(?<!\d)\d{6,12}:[A-Za-z0-9_-]{20,}|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SAID = {
    "create": "creating",
    "update": "updating",
    "delete": "removing",
    "create-replacement": "replacing",
    "refresh": "checking",
}


class EngineWatch:
    """Listens to the engine's events: tells what is being done, and keeps what changed and what went wrong."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._errors: list[str] = []
        self.changes: Mapping[str, int] = {}

    def __call__(self, event: EngineEvent) -> None:
        if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
            self._errors.append(event.diagnostic_event.message)
        elif event.resource_pre_event is not None:
            metadata = event.resource_pre_event.metadata
            said, kind = _SAID.get(str(metadata.op.value)), metadata.type.rpartition(":")[2].lower()
            if said is not None and metadata.type.startswith(("docker:", "command:")):
                self._tell(f"{said} the {kind}")
        elif event.summary_event is not None:
            self.changes = {str(getattr(op, "value", op)): n for op, n in event.summary_event.resource_changes.items()}

    @property
    def errors(self) -> tuple[str, ...]:
        """What went wrong, the first cause first, one line each."""
        return tuple(line for message in self._errors for line in _clean(message))


def error_lines(text: str) -> tuple[str, ...]:
    """The lines that the engine printed as errors, without colours and secrets."""
    found = (line.removeprefix("stderr: ") for line in _clean(text))
    return tuple(line.removeprefix("error: ") for line in found if line.startswith("error: "))


def _clean(text: str) -> list[str]:
    """The lines of a message that are not empty, without colours and secrets."""
    lines = (line.strip() for line in _SECRET.sub("[secret]", _COLOUR.sub("", text)).splitlines())
    return [line for line in lines if line]
