"""Which needs a text is about."""

from __future__ import annotations

import pytest

from bot.front.skillchat.interests import about
from bot.skills.names import SkillName
from bot.skills.sets import Recommended, SkillSet

NEEDS = [
    SkillSet("notes", "Notes", "Keeps them where you have them.", (Recommended(SkillName("a", "obsidian-helper")),)),
    SkillSet("code", "Software", "Follows reviews.", (Recommended(SkillName("a", "github")),)),
]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("Take some NOTES, please", ["notes"]),
        ("my obsidian vault and my software", ["notes", "code"]),
        # Neither common words nor parts of others.
        ("where do you have them", []),
        ("noteworthy", []),
        ("", []),
    ],
)
def test_words_of_a_need(text: str, keys: list[str]) -> None:
    assert about(text, NEEDS) == keys
