"""One demo for each folder, and never in a real service's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.demo.lock import DemoLock, DemoRunning, NotTheDemos, is_demos


def test_a_second_demo_is_refused_with_the_folders_name(tmp_path: Path) -> None:
    with DemoLock(tmp_path).hold(), pytest.raises(DemoRunning, match=str(tmp_path)), DemoLock(tmp_path).hold():
        pass


def test_the_running_demo_is_found_once_it_can_be_used(tmp_path: Path) -> None:
    other = DemoLock(tmp_path)
    assert other.running() is None
    lock = DemoLock(tmp_path)
    with lock.hold():
        assert other.running() is None
        lock.announce("http://127.0.0.1:8484")
        assert other.running() == "http://127.0.0.1:8484"
    assert other.running() is None


def test_a_demo_can_start_again_where_one_ended(tmp_path: Path) -> None:
    for _ in range(2):
        with DemoLock(tmp_path).hold():
            (tmp_path / "db").mkdir(exist_ok=True)


def test_a_folder_is_a_demos_once_one_has_run_there(tmp_path: Path) -> None:
    assert not is_demos(tmp_path)
    with DemoLock(tmp_path).hold():
        pass
    assert is_demos(tmp_path)


def test_a_real_services_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    with pytest.raises(NotTheDemos, match="ZAKI_STATE"), DemoLock(tmp_path).hold():
        pass
    assert sorted(tmp_path.iterdir()) == [tmp_path / "db"]
