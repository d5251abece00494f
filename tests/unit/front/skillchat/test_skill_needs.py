"""What a skill asks for, as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from bot.front.skillchat.needs import in_short
from bot.front.skillchat.sets import Sets


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ({}, "needs nothing special"),
        ({"bins": ["curl"]}, "runs the program curl"),
        ({"bins": ["curl", "jq"], "env": ["KEY"]}, "runs the programs curl and jq; wants a key from you: KEY"),
        ({"any_bins": ["rg", "grep"]}, "runs one of the programs rg and grep"),
        ({"domains": ["a.example"], "tools": ["Bash"]}, "names the address a.example; may use the tool Bash"),
        ({"os": ["darwin"]}, "is made for darwin"),
        ({"os": ["darwin", "linux"]}, "needs nothing special"),
        ({"bins": [f"p{number}" for number in range(9)]}, "runs the programs p0, p1, p2, p3, p4, p5 and 3 more"),
        ({"bins": "curl", "env": [1, None, " "], "strange": ["x"]}, "needs nothing special"),
    ],
)
def test_in_plain_words(needs: dict[str, Any], says: str) -> None:
    assert in_short(needs) == says


def test_a_file_of_sets_that_cannot_be_used_offers_nothing(tmp_path: Any) -> None:
    path = tmp_path / "sets.toml"
    sets = Sets(path)
    assert sets.now().needs == ()
    path.write_text('[needs.notes]\ntitle = "Notes"\nsays = "Keeps them."\nskills = ["@a/notes"]')
    # An edit needs no restart.
    assert [need.key for need in sets.now().needs] == ["notes"]
