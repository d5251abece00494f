"""Archives that nobody should unpack are refused, each with a sentence, at no cost to speak of."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.skills.inspection.archive import LARGEST_ARCHIVE, BadArchive, read_bundle
from bot.standins.registry.archives import (
    Entry,
    bomb,
    device,
    link,
    many_files,
    multitude,
    odd,
    pack,
    plain,
    with_entries,
)

HEAD = b"---\nname: x\ndescription: y\n---\n"
SKILL = plain("SKILL.md", HEAD)


def refused(folder: Path, content: bytes) -> str:
    archive = folder / "skill.zip"
    archive.write_bytes(content)
    with pytest.raises(BadArchive) as bad:
        read_bundle(archive)
    return str(bad.value)


def locked() -> bytes:
    content = bytearray(with_entries(HEAD, plain("a.txt", b"a")))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", content, content.rindex(mark) + place, 1)
    return bytes(content)


def wrong_checksum() -> bytes:
    return with_entries(HEAD, Entry("a.txt", b"abc", crc=1))


def long_comment() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("SKILL.md", HEAD)
        archive.comment = b"PK\x05\x06 and more"
    return packed.getvalue()


def many_names() -> bytes:
    return odd([SKILL, *(Entry("n/" + f"{number:04}" + "x" * 600) for number in range(999))])


PLAIN = pack({"SKILL.md": HEAD})
CASES: list[tuple[str, Callable[[], bytes], str]] = [
    ("traversal", lambda: with_entries(HEAD, plain("../x", b"")), "leads out of its folder"),
    ("traversal below", lambda: with_entries(HEAD, plain("a/../../x", b"")), "leads out of its folder"),
    ("absolute", lambda: with_entries(HEAD, plain("/etc/x", b"")), "absolute path"),
    ("backslash", lambda: with_entries(HEAD, plain("a\\..\\x", b"")), "absolute path"),
    ("drive", lambda: with_entries(HEAD, plain("C:/x", b"")), "absolute path"),
    ("nul", lambda: with_entries(HEAD, plain("a\x00.md", b"")), "invisible characters"),
    ("bidi", lambda: with_entries(HEAD, plain("a\u202egpj.sh", b"")), "invisible characters"),
    ("dot", lambda: with_entries(HEAD, plain("./x", b"")), "odd path"),
    ("empty part", lambda: with_entries(HEAD, plain("a//x", b"")), "odd path"),
    ("space", lambda: with_entries(HEAD, plain("a /x", b"")), "odd path"),
    ("deep", lambda: with_entries(HEAD, plain("a/" * 20 + "x", b"")), "too long"),
    ("long", lambda: with_entries(HEAD, plain("x" * 300, b"")), "too long"),
    ("origin", lambda: with_entries(HEAD, plain(".clawhub/origin.json", b"{}")), "note what they installed"),
    ("link", lambda: with_entries(HEAD, link("x", "/etc/passwd")), "a link"),
    ("device", lambda: with_entries(HEAD, device("x")), "a device"),
    ("twice", lambda: odd([SKILL, SKILL]), "twice"),
    ("twice by case", lambda: with_entries(HEAD, plain("skill.MD", b"")), "spelt differently"),
    ("file and folder", lambda: with_entries(HEAD, plain("a", b""), plain("a/b", b"")), "below a file"),
    ("folder with content", lambda: with_entries(HEAD, Entry("a/", b"x", mode=0o40755)), "folder with content"),
    ("file as folder", lambda: with_entries(HEAD, Entry("a/", mode=0o100644)), "both folder and file"),
    ("a million files", lambda: multitude(1_000_000), "larger than 32 MiB"),
    ("a crowd", lambda: many_files(HEAD, 60_000), "more than 1000 files"),
    ("a table of contents", many_names, "table of contents"),
    ("10 GB", lambda: bomb(HEAD), "grows beyond"),
    ("one big file", lambda: with_entries(HEAD, plain("x", bytes(11 * 2**20))), "grows beyond"),
    ("large", lambda: PLAIN + bytes(LARGEST_ARCHIVE), "larger than 32 MiB"),
    ("no zip", lambda: b"hello", "no zip file"),
    ("nothing", lambda: b"", "no zip file"),
    ("behind the end", lambda: PLAIN + b"x", "no zip file"),
    ("before the beginning", lambda: b"#!/bin/sh\n" + PLAIN, "before its beginning"),
    ("a comment", long_comment, "behind its end"),
    ("cut off", lambda: PLAIN[: len(PLAIN) // 2], "no zip file"),
    ("locked", locked, "encrypted"),
    ("wrong checksum", wrong_checksum, "cannot be read"),
    ("unknown method", lambda: with_entries(HEAD, Entry("a", b"x", method=99)), "cannot be read"),
    ("no skill", lambda: pack({"README.md": b""}), "no SKILL.md"),
    ("another within", lambda: pack({"skill.md": HEAD, "a/b/SKILL.md": HEAD}), "a skill in a folder"),
    ("a folder above", lambda: pack({"x/SKILL.md": HEAD}), "no SKILL.md"),
]


@pytest.mark.parametrize(
    "files", [{"skill.md": HEAD, "a.md": b""}, {"SKILL.md": HEAD, "examples/SKILL.md": HEAD}], ids=["lower", "example"]
)
def test_what_openclaw_loads_is_read(tmp_path: Path, files: dict[str, bytes]) -> None:
    packed = tmp_path / "a.zip"
    packed.write_bytes(pack(files))
    assert read_bundle(packed).files == files


@pytest.mark.parametrize(("make", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_refused_with_a_sentence(tmp_path: Path, make: Callable[[], bytes], says: str) -> None:
    sentence = refused(tmp_path, make())
    assert says in sentence
    assert sentence.endswith(".")


def test_a_size_that_is_a_lie_does_not_help(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = deflate.compress(bytes(20 * 2**20)) + deflate.flush()
    lie = with_entries(HEAD, Entry("x", stored, 8, size=10, crc=0))
    assert refused(tmp_path, lie)


def test_what_is_served_is_packed_anew_and_always_the_same(tmp_path: Path) -> None:
    archive = tmp_path / "skill.zip"
    files = {"SKILL.md": HEAD, "data/b.csv": b"1,2\n", "a.sh": b"echo\n", "leer/": b""}
    archive.write_bytes(pack({**files, "_meta.json": b"{}", "skill-card.md": b"#"}))
    bundle = read_bundle(archive)
    assert bundle.files == {"SKILL.md": HEAD, "data/b.csv": b"1,2\n", "a.sh": b"echo\n"}
    archive.write_bytes(bundle.pack())
    again = read_bundle(archive)
    assert (again.files, again.digest, again.pack()) == (bundle.files, bundle.digest, bundle.pack())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_broken_archive_breaks_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(pack({"SKILL.md": HEAD, "data/b.csv": b"1,2\n" * 50}))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    archive = tmp_path / "skill.zip"
    archive.write_bytes(bytes(content))
    with contextlib.suppress(BadArchive):
        assert read_bundle(archive).manifest is not None
