"""What restic says becomes what the operator should do."""

from __future__ import annotations

import pytest

from bot.provisioner.restic import sentence


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Fatal: wrong password or no key found\n", "put the old one back from your backup."),
        (
            "Fatal: unable to save snapshot: Write: write /state/restic-temp-pack-5: no space left on device\n",
            "The disk of the state folder is full; free some room there.",
        ),
        (
            "Fatal: unable to open config file: stat /state/config: no such file or directory\n"
            "Is there a repository at the following location?\n/state\n",
            "The archive's repository is damaged or gone; put it back from your backup.",
        ),
        ("first\nFatal: something new\n\n", "restic failed with exit code 1: Fatal: something new."),
        ("", "restic failed with exit code 1: it did not say why."),
    ],
)
def test_sentences(said: str, told: str) -> None:
    assert sentence(said, 1).endswith(told)
