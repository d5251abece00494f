"""Server-sent events, however the network cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.front.models import events
from bot.front.models.events import EventTooLarge, data_of, event_of, split


async def arriving(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@given(
    st.lists(st.sampled_from(["a", "é", '{"x": 1}', "[DONE]"]), max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=30),
    st.booleans(),
)
async def test_events_come_whole_and_unchanged(texts: list[str], end: bytes, sizes: list[int], ends: bool) -> None:
    whole = [b"data: " + text.encode() + end for text in texts]
    rest = b"" if ends else b"data: unfinished"
    stream, chunks = b"".join(whole) + rest, []
    for size in sizes * 20:
        chunks.append(stream[:size])
        stream = stream[size:]
    got = [event async for event in split(arriving([*chunks, stream]))]
    assert got == whole + ([rest] if rest else [])


async def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_EVENT", 100)
    with pytest.raises(EventTooLarge):
        [event async for event in split(arriving([b"x" * 60, b"x" * 60]))]


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b'data: {"a": 1}\n\n', {"a": 1}),
        (b'data:{"a": 1}\r\n\r\n', {"a": 1}),
        (b'event: x\nid: 7\ndata: {"a":\ndata: 1}\n\n', {"a": 1}),
        (b"data: [DONE]\n\n", None),
        (b"data: [1]\n\n", None),
        (b": keep-alive\n\n", None),
        (b"data: {\n\n", None),
        (b"data: \xff\n\n", None),
    ],
)
def test_reads_what_an_event_carries(event: bytes, data: object) -> None:
    assert data_of(event) == data


def test_writes_an_event() -> None:
    assert data_of(event_of({"text": "two\nlines"})) == {"text": "two\nlines"}
