"""Which file the services take for what the host's stack says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot import hostfacts
from bot.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a host that was declared behind SSH."""
    monkeypatch.setattr(hostfacts, "SYSTEM_FILE", tmp_path / "system.json")
    hostfacts.SYSTEM_FILE.write_text("{}")
    (tmp_path / "state").mkdir()
    return Settings(state=tmp_path / "state")


def test_what_is_below_the_state_folder_comes_first(settings: Settings) -> None:
    assert hostfacts.host_file(settings) == hostfacts.SYSTEM_FILE
    local = settings.state / "host.json"
    local.write_text("{}")
    assert hostfacts.host_file(settings) == local


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_what_another_user_put_there_is_not_believed(settings: Settings) -> None:
    local = settings.state / "host.json"
    local.write_text("{}")
    os.chown(local, 65534, 65534)
    assert hostfacts.host_file(settings) == hostfacts.SYSTEM_FILE
    local.unlink()
    local.symlink_to(hostfacts.SYSTEM_FILE)
    os.lchown(local, 65534, 65534)
    assert hostfacts.host_file(settings) == hostfacts.SYSTEM_FILE
