"""Static checks of a skill's files with YARA rules."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import yara  # type: ignore[import-not-found]

from bot.skills.inspection.archive import Bundle

_SECONDS_A_FILE = 5
_SECONDS = 20.0
_MOST_FINDINGS = 20


def scan(bundle: Bundle) -> list[str]:
    """A sentence for each thing that no skill should have, with the file. It blocks."""
    found: list[str] = []
    begun = time.monotonic()
    for path, content in sorted(bundle.files.items()):
        if time.monotonic() > begun + _SECONDS:
            found.append("It takes too long to be looked through.")
            break
        try:
            matches = _rules().match(data=content, timeout=_SECONDS_A_FILE)
        except yara.Error:
            found.append(f"{path!a} takes too long to be looked through.")
            continue
        found += [f"{match.meta['says']} ({path!a})." for match in matches]
        if len(found) >= _MOST_FINDINGS:
            break
    return found[:_MOST_FINDINGS]


@cache
def _rules() -> Any:
    return yara.compile(filepath=str(Path(__file__).parent / "rules.yar"))
