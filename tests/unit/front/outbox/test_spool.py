"""Files on disk until they are sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bot.front.outbox.spool import Spool, SpoolFull


def put(spool: Spool, owner: str, content: bytes) -> Path:
    file = spool.create(owner)
    try:
        file.write(content)
    except SpoolFull:
        file.abandon()
        raise
    file.close()
    return file.path


def test_a_file_is_private_and_named_by_its_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    path = put(spool, "u-abc", b"hello")
    assert path.read_bytes() == b"hello"
    assert path.stat().st_mode & 0o777 == 0o600
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert path.name.startswith("u-abc.")


def test_a_file_being_written_knows_its_content(tmp_path: Path) -> None:
    file = Spool(tmp_path).create("u-a")
    for piece in (b"hello ", b"", b"Ada"):
        file.write(piece)
    file.close()
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()


def test_limits_hold_for_a_file_and_for_an_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path, largest_file=10, largest_share=25)
    with pytest.raises(SpoolFull):
        put(spool, "u-a", b"x" * 11)
    paths = [put(spool, "u-b", b"x" * 10) for _ in range(2)]
    with pytest.raises(SpoolFull):
        put(spool, "u-b", b"x" * 6)
    put(spool, "u-c", b"x" * 10)
    spool.discard(paths)
    assert not any(path.exists() for path in paths)
    put(spool, "u-b", b"x" * 10)


def test_an_abandoned_file_is_gone_and_not_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, largest_share=10)
    file = spool.create("u-a")
    file.write(b"x" * 10)
    file.abandon()
    assert list(tmp_path.iterdir()) == []
    put(spool, "u-a", b"x" * 10)


def test_a_sweep_keeps_what_is_wanted_and_what_is_new(tmp_path: Path) -> None:
    before = Spool(tmp_path)
    wanted, orphan = put(before, "u-a", b"x" * 8), put(before, "u-a", b"y")
    spool = Spool(tmp_path, largest_share=10)
    new = put(spool, "u-b", b"z")
    assert spool.sweep({wanted.name}) == 1
    assert sorted(tmp_path.iterdir()) == sorted([wanted, new])
    assert not orphan.exists()
    with pytest.raises(SpoolFull):
        put(spool, "u-a", b"x" * 3)
