"""Server-sent events, passed on as the bytes that they came in."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
#: Bytes of one event, far above what a provider sends.
_MAX_EVENT = 16_000_000


class EventTooLarge(Exception):
    """The provider sent an event without an end."""


async def split(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Each event with its end, as soon as that has arrived; then what is left without one."""
    rest = bytearray()
    async for chunk in chunks:
        searched = max(len(rest) - 3, 0)
        rest += chunk
        while end := _END.search(rest, searched):
            yield bytes(rest[: end.end()])
            del rest[: end.end()]
            searched = 0
        if len(rest) > _MAX_EVENT:
            raise EventTooLarge
    if rest:
        yield bytes(rest)


def data_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object that an event carries; None for comments, `[DONE]` and anything else."""
    lines = [line[5:].lstrip() for line in event.splitlines() if line.startswith(b"data:")]
    try:
        data = json.loads(b"\n".join(lines))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def event_of(data: dict[str, Any]) -> bytes:
    """An event that carries a JSON object."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"
