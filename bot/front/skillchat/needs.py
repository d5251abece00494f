"""What a skill asks for, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Names in one sentence, and characters of one: they are the publisher's.
_MOST = 6
_LONGEST = 60

#: By kind as in `skill_versions.needs`: for one thing, and for several.
_SENTENCES: tuple[tuple[str, str, str], ...] = (
    ("bins", "runs the program {}", "runs the programs {}"),
    ("any_bins", "runs the program {}", "runs one of the programs {}"),
    ("env", "wants a key from you: {}", "wants keys from you: {}"),
    ("domains", "names the address {}", "names the addresses {}"),
    ("tools", "may use the tool {}", "may use the tools {}"),
    ("config", "needs the setting {} of your assistant", "needs the settings {} of your assistant"),
    ("installs", "wants to install {}", "wants to install {}"),
    ("os", "is made for {}", "is made for {}"),
)
NOTHING = "needs nothing special"


def sentences(needs: Mapping[str, Any]) -> list[str]:
    """A few words for each kind, such as “runs the program curl”; plain text, empty where it needs nothing."""
    found = []
    for kind, one, several in _SENTENCES:
        words = _words(needs.get(kind))
        if kind == "os" and (not words or "linux" in words):
            continue
        if words:
            found.append((one if len(words) == 1 else several).format(_listed(words)))
    return found


def in_short(needs: Mapping[str, Any]) -> str:
    """All of it in one line; plain text."""
    return "; ".join(sentences(needs)) or NOTHING


def _words(value: object) -> list[str]:
    values: Sequence[object] = value if isinstance(value, list) else ()
    return [shown for one in values if isinstance(one, str) and (shown := " ".join(one.split())[:_LONGEST])]


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST
    if more > 0:
        return f"{', '.join(words[:_MOST])} and {more} more"
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
