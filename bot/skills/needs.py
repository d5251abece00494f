"""What a version of a skill asks for, and what it asks for beyond another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Lists of words by kind, as in `skill_versions.needs`.
Needs = Mapping[str, Sequence[str]]


def new_needs(before: Needs, after: Needs) -> dict[str, list[str]]:
    """What the one needs and the other did not, by kind."""
    # That it runs on one system more asks for nothing.
    kinds = [kind for kind in sorted(after) if kind != "os"]
    found = {kind: sorted(set(after[kind]) - set(before.get(kind, ()))) for kind in kinds}
    return {kind: words for kind, words in found.items() if words}
