"""Static checks of a skill's files with YARA rules."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import yara_x

from bot.skills.inspection.archive import Bundle

_SECONDS_A_FILE = 5
_SECONDS = 20.0
_MOST_FINDINGS = 20


def scan(bundle: Bundle) -> list[str]:
    """A sentence for each thing that no skill should have, with the file. It blocks."""
    scanner = yara_x.Scanner(_rules())
    scanner.set_timeout(_SECONDS_A_FILE)
    found: list[str] = []
    begun = time.monotonic()
    for path, content in sorted(bundle.files.items()):
        if time.monotonic() > begun + _SECONDS:
            found.append("It takes too long to be looked through.")
            break
        try:
            matches = scanner.scan(content)
        except yara_x.TimeoutError:
            found.append(f"{path!a} takes too long to be looked through.")
            continue
        found += [f"{dict(rule.metadata)['says']} ({path!a})." for rule in matches.matching_rules]
        if len(found) >= _MOST_FINDINGS:
            break
    return found[:_MOST_FINDINGS]


@cache
def _rules() -> yara_x.Rules:
    return yara_x.compile((Path(__file__).parent / "rules.yar").read_text())
