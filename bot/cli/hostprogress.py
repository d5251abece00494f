"""Shows what an `up` of a host does: a line for each step, and on a terminal the one that is under way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bot.cli.output import say
from bot.provisioner.operators import Progress, Step

if TYPE_CHECKING:
    from rich.status import Status


@contextmanager
def shown() -> Iterator[Progress]:
    """Progress on standard error, during the block."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console

    with Console(stderr=True).status("looking at the host") as status:
        yield _OnTerminal(status)


class _Lines(Progress):
    """For logs."""

    def done(self, step: Step) -> None:
        say(_line(step))


class _OnTerminal(Progress):
    """With the steps that are under way at the bottom."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._under_way: list[str] = []

    def begun(self, name: str) -> None:
        self._under_way.append(name)
        self._show()

    def done(self, step: Step) -> None:
        self._under_way.remove(step.name)
        self._status.console.print(_line(step), highlight=False, markup=False)
        self._show()

    def _show(self) -> None:
        self._status.update(" ".join([*self._under_way, "…"]) if self._under_way else "looking at the host")


def _line(step: Step) -> str:
    said = {"delete": "taken back"}.get(step.operation, "done")
    return f"{step.name:<16} {'failed' if step.failed else said} after {step.seconds:.0f} s"
