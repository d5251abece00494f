"""Names that look like another: the same as OpenClaw's own, confusable letters, and a slip of one letter."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from confusable_homoglyphs import confusables  # type: ignore[import-untyped]
from rapidfuzz.distance import OSA

from bot.skills.names import SkillName

#: Letters fewer than which a name is too short to tell a slip from another word.
_SHORTEST = 6
#: What looks alike in ASCII, each read as the last.
_ALIKE = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("i", "l"), ("3", "e"), ("4", "a"), ("5", "s"), ("7", "t"))
#: Publishers that others imitate, and whose the skills are that come with OpenClaw.
_OWNERS = ("openclaw", "clawhub", "steipete")


def lookalike(name: SkillName, display_name: str, known: Iterable[SkillName]) -> str | None:
    """A sentence on what the name looks like; None: nothing else.

    `known`: the skills that several instances have, whose names people trust by now.
    """
    known = list(known)
    for owner in sorted({*_OWNERS, *(one.owner for one in known)}):
        if owner != name.owner and _alike(name.owner, owner):
            return f"Its publisher @{name.owner} looks like @{owner}."
    if SkillName(name.owner, name.slug) not in known:
        if name.slug in _names("bundled") and name.owner not in _OWNERS:
            return f"A skill named {name.slug} comes with OpenClaw, and @{name.owner} is not its publisher."
        mine = {one.slug for one in known if one.owner == name.owner}
        for slug in sorted({*_names("bundled"), *_names("known"), *(one.slug for one in known)} - mine):
            if slug != name.slug and _alike(name.slug, slug):
                return f"Its name {name.slug} looks like {slug}."
    if confusables.is_dangerous(display_name[:200]):
        return "Its title mixes letters of several scripts that look alike."
    return None


def _alike(left: str, right: str) -> bool:
    plain_left, plain_right = _plain(left), _plain(right)
    if plain_left == plain_right:
        return True
    if min(len(plain_left), len(plain_right)) < _SHORTEST:
        return False
    # `slacks` and `slack-2` are other words; a letter lost, doubled, changed or swapped is a slip.
    return OSA.distance(plain_left, plain_right, score_cutoff=1) <= 1


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    plain = "".join(char for char in name if char not in "-_.")
    for alike, one in _ALIKE:
        plain = plain.replace(alike, one)
    return plain


@cache
def _names(which: str) -> frozenset[str]:
    lines = (Path(__file__).parent / f"{which}_names.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
