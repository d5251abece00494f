"""What is wrong with Docker or the disk beneath, in words for the operator, from what the daemon or the engine said."""

from __future__ import annotations

import re

#: The engine's plugin puts these around what Docker said.
_WRAPPING = re.compile(r"^sdk-v2/\S+ sdk\.helper_schema: |: provider=\S+$")
_FULL = re.compile(r"(?:(/[^\s:'\"]+)['\"]?: )?no space left on device", re.IGNORECASE)
_NO_IMAGE = re.compile(r"unable to pull image (\S+?): ")
_AWAY = re.compile(r"Cannot connect to (?:the Docker daemon|Docker Engine)|Error pinging Docker server")


def in_plain_words(said: str) -> str:
    """Half a sentence with what to do, where the cause is a known one; else what was said, without its wrapping."""
    if (full := _FULL.search(said)) is not None:
        where = f"the disk of {full[1]}" if full[1] else "a disk"
        return f"{where} is full; free some room there, and it is tried again"
    if (missing := _NO_IMAGE.search(said)) is not None:
        return (
            f"the image {missing[1]} is not in Docker any more; run scripts/setup and `zaki host up`, or pull it, "
            "and it is tried again"
        )
    if _AWAY.search(said):
        return "Docker does not answer; `zaki doctor` names the cure"
    return _WRAPPING.sub("", said)
