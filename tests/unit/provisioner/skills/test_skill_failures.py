"""What a person is told of a client that failed."""

from __future__ import annotations

import pytest

from bot.provisioner.containers import Executed
from bot.provisioner.skills.installing import last_words

BOX = """\
[sqlite/transaction] slow SQLite transaction hold async=false
╭──────────────────────────────╮
│  @a/b was recalled and must  │
│  not be used: it steals.     │
╰──────────────────────────────╯
"""


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("Checking…\n\x1b[31mThis skill is blocked by ClawHub.\x1b[0m\n\n", "This skill is blocked by ClawHub."),
        (BOX, "@a/b was recalled and must not be used: it steals."),
        ("", "Its installation ended with 3."),
        ("\u202e\x07bad\x00 words", "bad words"),
    ],
)
def test_it_is_the_clients_last_words_without_their_frame(printed: str, sentence: str) -> None:
    assert last_words(Executed(3, printed)) == sentence


def test_they_are_never_long() -> None:
    assert len(last_words(Executed(1, "word " * 9999))) < 300


def test_one_that_was_ended_says_so() -> None:
    assert "too long" in last_words(Executed(124, "Downloading…"))
