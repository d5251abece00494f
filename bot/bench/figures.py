"""A measured figure, as a line of JSON or a row of a table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import typer


@dataclass(frozen=True)
class Figure:
    """One value; `peer` is the same thing measured on the peer, and `ratio` ours by theirs."""

    bench: str
    name: str
    value: float
    unit: str
    #: How many times it was measured.
    n: int
    peer: float | None = None
    ratio: float | None = None
    #: What the value is made of, in the same unit.
    parts: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """What a line holds: always the first seven, and the machine that it was measured on."""
        line: dict[str, Any] = {
            "bench": self.bench,
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "peer": _rounded(self.peer),
            "ratio": _rounded(self.ratio),
            "n": self.n,
        }
        if self.parts is not None:
            line["parts"] = {name: _rounded(value) for name, value in self.parts.items()}
        return {**line, "machine": machine()}


Report = Callable[[Figure], None]


def print_line(figure: Figure) -> None:
    """For programs: one JSON object a line, as soon as it is known."""
    typer.echo(json.dumps(figure.as_json(), ensure_ascii=False))


def print_table(figures: list[Figure]) -> None:
    """For people: all of them at the end."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("figure", "value", "peer", "ratio", "n"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in figures:
        peer = f"{figure.peer:.3g} {figure.unit}" if figure.peer is not None else "-"
        ratio = f"{figure.ratio:.3f}" if figure.ratio is not None else "-"
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}".rstrip(), peer, ratio, str(figure.n))
        for name, value in (figure.parts or {}).items():
            table.add_row(f"  {name}", f"{value:.3g} {figure.unit}", "", "", "", style="dim")
    Console().print(table)


@cache
def machine() -> dict[str, Any]:
    """The machine that figures are of."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "docker": _docker_version(),
    }


def _docker_version() -> str | None:
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
