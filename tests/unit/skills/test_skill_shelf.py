"""The shelf keeps whole files under their digest, or nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bot.skills.shelf import Shelf


def test_a_file_is_kept_under_its_digest(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    name = shelf.put(b"content")
    assert name == hashlib.sha256(b"content").hexdigest()
    assert shelf.find(name).read_bytes() == b"content"
    assert shelf.put(b"content") == name
    shelf.discard(name)
    assert not shelf.holds(name)
    shelf.discard(name)


def test_a_file_that_changed_on_the_disk_is_not_served(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    name = shelf.put(b"content")
    shelf.path(name).write_bytes(b"other content")
    with pytest.raises(FileNotFoundError):
        shelf.find(name)
    assert not shelf.holds(name)


def test_what_a_stop_left_is_swept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.sweep()
    with shelf.incoming() as half:
        half.write_bytes(b"half")
        shelf.sweep()
        assert not half.exists()


def test_no_name_leads_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        Shelf(tmp_path).path("../../etc/passwd")
