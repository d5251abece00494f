"""A name that looks like another is found; other words are left alone."""

from __future__ import annotations

import pytest

from bot.front.skills.lookalikes import lookalike
from bot.skills.names import SkillName

KNOWN = [SkillName("samples", "meeting-notes"), SkillName("samples", "tide-tables")]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("githubb", "github"),
        ("g1thub", "github"),
        ("git-hub", "github"),
        ("slacl", None),
        ("s1ack", "slack"),
        ("spotify-p1ayer", "spotify-player"),
        ("rneeting-notes", "meeting-notes"),
        ("meetingnotes", "meeting-notes"),
        ("tide-table", "tide-tables"),
        ("gitlab", None),
        ("github-issues", None),
        ("gmail", None),
        ("slack", None),
        ("city-weather", None),
        ("unit-converter", None),
    ],
)
def test_names(name: str, like: str | None) -> None:
    found = lookalike(SkillName("other", name), name, KNOWN)
    assert found == (f"Its name {name} looks like {like}." if like else None)


def test_a_skill_of_openclaws_own_has_its_name_for_itself() -> None:
    for owner in ("steipete", "openclaw"):
        assert lookalike(SkillName(owner, "github"), "", KNOWN) is None
    said = lookalike(SkillName("other", "github"), "", KNOWN)
    assert said == "A skill named github comes with OpenClaw, and @other is not its publisher."
    # Several instances have it: the operator allowed it, or it was there before.
    assert lookalike(SkillName("other", "github"), "", [*KNOWN, SkillName("other", "github")]) is None


def test_who_is_known_does_not_look_like_another() -> None:
    assert lookalike(SkillName("samples", "tide-table"), "", [*KNOWN, SkillName("samples", "tide-table")]) is None


def test_a_publisher_may_have_several_names_alike() -> None:
    assert lookalike(SkillName("samples", "tide-table"), "", KNOWN) is None


@pytest.mark.parametrize("owner", ["0penclaw", "open-claw", "openclavv", "sarnples"])
def test_publishers(owner: str) -> None:
    assert "looks like @" in str(lookalike(SkillName(owner, "anything"), "", KNOWN))


def test_titles() -> None:
    assert "several scripts" in str(lookalike(SkillName("other", "x"), "Wеather", KNOWN))
    assert lookalike(SkillName("other", "x"), "Погода", KNOWN) is None
    assert lookalike(SkillName("other", "x"), "Wetter für Ärzte", KNOWN) is None
