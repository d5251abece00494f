"""How many attempts of a hostile instance are made, and how many succeed: counted by `tests/e2e/attacker`.

That builds a host with the real firewall, a neighbour and an internet of its own, which a bench on the machine as it
is could not aim at.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.bench.figures import Figure, Report

_PROJECT = Path(__file__).resolve().parents[2]
#: What the tests write every verdict to, by the name of its variable.
_REPORT = "ZAKI_ATTACK_REPORT"


class BenchFailed(Exception):
    """Not every attempt could be made; the message says which."""


async def measure(report: Report, tell: Callable[[str], None]) -> None:
    """Report `tried` and `succeeded`; raises :class:`BenchFailed` where an attempt could not be made."""
    tell("A host, two instances and an internet are made in namespaces, which takes a minute or two.")
    with tempfile.TemporaryDirectory(prefix="zaki-bench-") as folder:
        path = Path(folder, "verdicts.json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e/attacker"),
            *("-k", "test_attempt or archive"),
            cwd=_PROJECT,
            env={**os.environ, _REPORT: str(path)},
            stdout=sys.stderr,
        )
        code = await process.wait()
        verdicts = await asyncio.to_thread(_read, path)
    tried = [verdict for verdict in verdicts if verdict["tried"]]
    kinds = sorted({verdict["kind"] for verdict in tried})
    parts = {kind: float(sum(verdict["kind"] == kind for verdict in tried)) for kind in kinds}
    report(Figure("isolation", "tried", len(tried), "", 1, parts=parts))
    report(Figure("isolation", "succeeded", sum(verdict["succeeded"] for verdict in tried), "", 1))
    for verdict in verdicts:
        if verdict["succeeded"] or not verdict["tried"]:
            tell(f"{verdict['name']}: {verdict['words']}")
    if not tried or len(tried) < len(verdicts) or (code != 0 and not any(one["succeeded"] for one in tried)):
        raise BenchFailed("Not every attempt could be made; the lines above say why.")


def _read(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())) if path.exists() else []
