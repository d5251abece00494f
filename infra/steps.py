"""Steps as root on a host; a stand-in until the one with targets, locks and units takes its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pulumi


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file that a step puts in place."""

    content: pulumi.Input[str]
    mode: int = 0o644
    owner: str = "root:root"


class Steps(Protocol):
    """Runs idempotent scripts as root on a host."""

    def run(
        self,
        name: str,
        do: str,
        *,
        undo: str | None = None,
        check: str | None = None,
        files: Mapping[str, HostFile] = ...,
        secret: pulumi.Input[str] | None = None,
        provisional_s: int | None = None,
        parent: pulumi.Resource,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> pulumi.Resource:
        """Declare a step."""
