"""What Docker and the engine say when something beneath them is wrong, and what the operator is told."""

from __future__ import annotations

import pytest

from bot.provisioner.trouble import in_plain_words

WRAPPED = "sdk-v2/provider2.go:571: sdk.helper_schema: {}: provider=docker@5.2.0"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "create u-a: error while creating volume root path '/var/lib/docker/volumes/u-a': "
            "mkdir /var/lib/docker/volumes/u-a: no space left on device",
            "the disk of /var/lib/docker/volumes/u-a is full; free some room there, and it is tried again",
        ),
        ("/state/stacks/u-a: No space left on device", "the disk of /state/stacks/u-a is full"),
        ("no space left on device", "a disk is full"),
        (
            "Unable to create container with image sha256:1: unable to pull image sha256:1: error pulling image",
            "the image sha256:1 is not in Docker any more; run scripts/setup and `zaki host up`, or pull it",
        ),
        ("Cannot connect to Docker Engine via unix:///nowhere", "Docker does not answer; `zaki doctor`"),
        ("Cannot connect to the Docker daemon at unix:///nowhere.", "Docker does not answer; `zaki doctor`"),
        ("Conflict. The name is in use", "Conflict. The name is in use"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_known_causes_come_with_what_to_do(said: str, words: str, wrapped: bool) -> None:
    told = in_plain_words(WRAPPED.format(said) if wrapped else said)
    assert told.startswith(words)
    assert "provider" not in told
