"""The folder of a stack: what is written, what is read back, what a crash leaves, and who holds it."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from bot.provisioner.stackfolder import EngineLock, StackCorrupt, StackFolder

STACK = "u-0123456789"
CONTAINER = "docker:index/container:Container"


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    return StackFolder(tmp_path / STACK, STACK)


def _state(folder: StackFolder, *parts: str) -> Path:
    path = folder.path.joinpath("backend", ".pulumi", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _checkpoint(folder: StackFolder, latest: Any) -> Path:
    path = _state(folder, "stacks", "zaki", f"{STACK}.json")
    path.write_text(json.dumps({"version": 3, "checkpoint": {"stack": STACK, "latest": latest}}))
    return path


def test_plain_pulumi_finds_project_and_program(folder: StackFolder) -> None:
    folder.prepare({"zaki:id": STACK})
    project = yaml.safe_load((folder.path / "Pulumi.yaml").read_text())
    assert (project["name"], project["runtime"]) == ("zaki", "python")
    assert (Path(project["main"]) / "__main__.py").is_file()


def test_configuration_is_read_back_as_texts(folder: StackFolder) -> None:
    config = {"zaki:cpus": "2.0", "zaki:memory_mib": "2048", "zaki:labels": '{"a": "b"}', "zaki:id": STACK}
    folder.prepare(config)
    assert folder.configuration() == config
    assert yaml.safe_load(folder.settings.read_text())["config"] == config


def test_salt_of_the_secrets_stays(folder: StackFolder) -> None:
    folder.prepare({"zaki:a": "1"})
    folder.settings.write_text(folder.settings.read_text() + "encryptionsalt: v1:salt\n")
    folder.prepare({"zaki:a": "2"})
    assert yaml.safe_load(folder.settings.read_text()) == {"config": {"zaki:a": "2"}, "encryptionsalt": "v1:salt"}


def test_nothing_is_written_where_nothing_changes(folder: StackFolder) -> None:
    folder.prepare({"zaki:a": "1"})
    before = folder.settings.stat().st_ino
    folder.prepare({"zaki:a": "1"})
    assert folder.settings.stat().st_ino == before


def test_folder_is_closed_to_others(folder: StackFolder) -> None:
    descriptor = folder.try_hold()
    assert descriptor is not None
    os.close(descriptor)
    assert folder.path.stat().st_mode & 0o077 == 0


def test_new_stack_has_an_empty_record(folder: StackFolder) -> None:
    record = folder.record()
    assert not folder.exists()
    assert (record.outputs, record.pending, record.has_container) == ({}, 0, False)


def test_record_is_what_the_engine_saved(folder: StackFolder) -> None:
    root = {"type": "pulumi:pulumi:Stack", "urn": "urn:root", "outputs": {"address": "10.86.0.2"}}
    container = {"type": CONTAINER, "urn": "urn:container"}
    _checkpoint(folder, {"resources": [root, container], "pending_operations": [{"type": "creating"}]})
    record = folder.record()
    assert record.outputs == {"address": "10.86.0.2"}
    assert record.has_container
    assert record.pending == 1


def test_engine_that_was_stopped_before_its_first_save_left_nothing(folder: StackFolder) -> None:
    _checkpoint(folder, None)
    assert folder.exists()
    assert folder.record().outputs == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 3}', '{"checkpoint": {"latest": {"resources": [{}]}}}'])
def test_damaged_record_is_told_and_can_be_forgotten(folder: StackFolder, text: str) -> None:
    _checkpoint(folder, {}).write_text(text)
    with pytest.raises(StackCorrupt):
        folder.record()
    folder.forget()
    assert not folder.exists()
    assert folder.record().urns == {}


def test_lock_of_a_dead_process_is_not_held(folder: StackFolder) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    path = _state(folder, "locks", "organization", "zaki", STACK, "x.json")
    path.write_text(json.dumps({"pid": done.pid, "hostname": socket.gethostname(), "username": "x"}))
    assert folder.locks() == {path: EngineLock(socket.gethostname(), done.pid)}
    assert not folder.locks()[path].is_held()


def test_lock_of_a_process_that_is_no_engine_is_not_held() -> None:
    assert not EngineLock(socket.gethostname(), os.getpid()).is_held()


def test_what_a_killed_engine_left_is_ended() -> None:
    engine = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with engine:
        assert engine.stdout is not None
        engine.stdout.readline()
        lock = EngineLock(socket.gethostname(), engine.pid)
        lock.end_plugins()
        assert engine.poll() is None
        engine.kill()
        engine.wait()
        lock.end_plugins()
        # It held its engine's output open.
        assert engine.stdout.read() == ""


@pytest.mark.parametrize(("host", "pid"), [(socket.gethostname(), 0), (socket.gethostname(), 1), ("elsewhere", 2)])
def test_what_no_engine_of_ours_left_is_spared(host: str, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("bot.provisioner.stackfolder.os.killpg", lambda group, _signal: killed.append(group))
    EngineLock(host, pid).end_plugins()
    assert killed == []


def test_lock_of_another_host_is_held() -> None:
    assert EngineLock("somewhere-else", 1).is_held()


def test_lock_that_was_cut_off_is_not_held(folder: StackFolder) -> None:
    path = _state(folder, "locks", "organization", "zaki", STACK, "x.json")
    path.write_text("")
    assert not folder.locks()[path].is_held()


def test_history_keeps_the_newest(folder: StackFolder) -> None:
    stamps = [1_000_000_000_000_000_000 + number for number in range(6)]
    for stamp in stamps:
        for name in (f"{STACK}-{stamp}.history.json", f"{STACK}-{stamp}.checkpoint.json"):
            _state(folder, "history", "zaki", STACK, name).write_text("{}")
        _state(folder, "backups", "zaki", STACK, f"{STACK}.{stamp}.json").write_text("{}")
    draft = _state(folder, "stacks", "zaki", f"{STACK}.json.18eb17305ba9136b.tmp")
    draft.write_text("{")
    folder.prune(2)
    assert not draft.exists()
    kept = {path.name for path in _state(folder, "history", "zaki", STACK, "x").parent.iterdir()}
    assert kept == {f"{STACK}-{stamp}.{kind}.json" for stamp in stamps[-2:] for kind in ("history", "checkpoint")}
    backups = {path.name for path in _state(folder, "backups", "zaki", STACK, "x").parent.iterdir()}
    assert backups == {f"{STACK}.{stamp}.json" for stamp in stamps[-2:]}


def test_removed_folder_is_gone_and_may_be_removed_again(folder: StackFolder) -> None:
    folder.prepare({})
    _checkpoint(folder, {})
    folder.remove()
    assert not folder.path.exists()
    folder.remove()


def test_only_one_holds_the_folder(folder: StackFolder) -> None:
    first = folder.try_hold()
    assert first is not None
    assert folder.try_hold() is None
    os.close(first)
    second = folder.try_hold()
    assert second is not None
    os.close(second)


def test_dead_holder_holds_nothing(folder: StackFolder) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hold_for_ever, args=(str(folder.path), (ready := context.Event())))
    process.start()
    assert ready.wait(30)
    assert folder.try_hold() is None
    process.kill()
    process.join()
    descriptor = folder.try_hold()
    assert descriptor is not None
    os.close(descriptor)


def test_folder_that_its_holder_removed_is_held_anew(folder: StackFolder) -> None:
    first = folder.try_hold()
    assert first is not None
    folder.remove()
    second = folder.try_hold()
    assert second is not None
    assert folder.path.is_dir()
    os.close(first)
    assert folder.try_hold() is None
    os.close(second)


def _hold_for_ever(path: str, ready: Any) -> None:
    assert StackFolder(Path(path), STACK).try_hold() is not None
    ready.set()
    import time

    time.sleep(600)
