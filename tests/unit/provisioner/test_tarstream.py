"""A tar is judged in passing: whole or broken, wherever it was cut and however it came in pieces."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.provisioner.tarstream import TarBroken, TarStream

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=300)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
ENTRIES = st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=1500)), max_size=6)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


def tar_of(entries: list[tuple[str, bytes, bytes]], form: int) -> bytes:
    """A tar as another program writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = name * 2
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def fed(tar: bytes, step: int) -> TarStream:
    """A stream that got the tar in pieces of one length."""
    stream = TarStream()
    for start in range(0, len(tar), step):
        stream.feed(tar[start : start + step])
    return stream


@given(ENTRIES, FORMATS, st.integers(1, 2000))
def test_a_whole_tar_is_whole_in_pieces_of_any_length(
    entries: list[tuple[str, bytes, bytes]], form: int, step: int
) -> None:
    tar = tar_of(entries, form)
    stream = fed(tar, step)
    stream.end()
    assert (stream.entries, stream.bytes) == (len(entries), len(tar))
    assert stream.sha256 == hashlib.sha256(tar).hexdigest()


@given(ENTRIES, FORMATS, st.data())
def test_a_tar_that_was_cut_off_is_broken(
    entries: list[tuple[str, bytes, bytes]], form: int, data: st.DataObject
) -> None:
    tar = tar_of(entries, form)
    ends = len(tar.rstrip(b"\0"))
    # An end of two blocks of zeros follows the last entry, whose own last bytes may be zeros too.
    whole = -(-ends // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
    cut = data.draw(st.integers(0, min(whole, len(tar)) - 1))
    stream = fed(tar[:cut], 700)
    with pytest.raises(TarBroken, match="it ends in the middle"):
        stream.end()


def test_a_size_may_stand_in_attributes_instead_of_the_header() -> None:
    records = b"13 size=1500\n"
    attributes = tarfile.TarInfo("attributes")
    attributes.type, attributes.size = tarfile.XHDTYPE, len(records)
    tar = attributes.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")
    # Its header says that it is empty, as it does where a size does not fit.
    tar += tarfile.TarInfo("file").tobuf(tarfile.USTAR_FORMAT) + b"x" * 1500 + bytes(36)
    stream = fed(tar + bytes(1024), 100)
    stream.end()
    assert stream.entries == 1


def test_a_size_may_be_binary() -> None:
    entry = tarfile.TarInfo("large")
    entry.size = 9 * 2**30
    stream = TarStream()
    stream.feed(entry.tobuf(tarfile.GNU_FORMAT))
    # Zeros within what it holds are no end.
    stream.feed(bytes(2**20))
    with pytest.raises(TarBroken, match="it ends in the middle"):
        stream.end()


@pytest.mark.parametrize("place", [0, 130, 156, 600])
def test_a_damaged_header_is_told(place: int) -> None:
    tar = bytearray(tar_of([("a", tarfile.DIRTYPE, b""), ("b", tarfile.DIRTYPE, b"")], tarfile.GNU_FORMAT))
    tar[place] ^= 0x11
    with pytest.raises(TarBroken):
        fed(bytes(tar), 512)


def test_an_entry_behind_the_end_is_told() -> None:
    tar = tar_of([("a", tarfile.DIRTYPE, b"")], tarfile.GNU_FORMAT)
    with pytest.raises(TarBroken, match="something follows its end"):
        fed(tar + tar, 512)


@pytest.mark.parametrize("records", [b"x", b"99 a=b\n", b"7 a\n", b"11 size=z9\n", b"-1 a=b\n", b"0 a=b\n"])
def test_attributes_that_cannot_be_read_are_told(records: bytes) -> None:
    entry = tarfile.TarInfo("attributes")
    entry.type, entry.size = tarfile.XHDTYPE, len(records)
    with pytest.raises(TarBroken):
        fed(entry.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0"), 512)


async def test_what_is_watched_comes_through_and_a_break_does_not_end_it() -> None:
    tar = tar_of([("a", tarfile.REGTYPE, b"content")], tarfile.PAX_FORMAT)
    closed: list[str] = []

    async def pieces(content: bytes) -> AsyncGenerator[bytes, None]:
        try:
            for start in range(0, len(content), 100):
                yield content[start : start + 100]
        finally:
            closed.append("closed")

    assert b"".join([piece async for piece in TarStream().watch(pieces(tar))]) == tar
    came = []
    with pytest.raises(TarBroken):
        async for piece in TarStream().watch(pieces(tar[:1000])):
            came.append(piece)
    assert b"".join(came) == tar[:1000]
    assert closed == ["closed", "closed"]
