"""The runner of the engine, against programs that behave as badly as an engine can."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pulumi.automation.errors import CommandError, ConcurrentUpdateError, StackNotFoundError

from bot.provisioner.engine import EngineCommand, EngineDied, EngineStopped, EngineTimedOut
from bot.toolchain import Toolchain, read_pins

#: An engine that ends well when it is interrupted, as Pulumi does.
POLITE = "trap 'echo interrupted; exit 1' INT; echo started; while :; do sleep 0.02; done"
#: One that has to be asked twice.
SLOW = "trap 'echo once; trap \"echo twice; exit 1\" INT' INT; echo started; while :; do sleep 0.02; done"
#: One that never listens, with a plugin that outlives it.
DEAF = "trap '' INT; (trap '' INT; exec sleep 600) & echo $! >plugin; echo started; while :; do sleep 0.02; done"

Engine = Callable[..., EngineCommand]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Call it with a shell script to get a runner of it."""

    def make(
        script: str, *, timeout: float = 60, grace: float = 60, stop: threading.Event | None = None
    ) -> EngineCommand:
        program = tmp_path / "pulumi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        toolchain = dataclasses.replace(Toolchain.from_pins(read_pins(), tmp_path), pulumi_bin=tmp_path)
        return EngineCommand(toolchain, timeout=timeout, grace=grace, stop=stop or threading.Event())

    return make


def _run(command: EngineCommand, folder: Path, on_output: Callable[[str], None] | None = None) -> str:
    return command.run(["up"], str(folder), {"EXTRA": "1"}, on_output).stdout


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_output_comes_line_by_line_and_as_a_whole(engine: Engine, tmp_path: Path) -> None:
    lines: list[str] = []
    assert _run(engine("echo one; echo two; echo three >&2"), tmp_path, lines.append) == "one\ntwo"
    assert lines == ["one", "two"]


def test_engine_never_asks_and_runs_where_it_shall(engine: Engine, tmp_path: Path) -> None:
    assert _run(engine('echo "$@"; pwd; echo $EXTRA; read answer || echo no input'), tmp_path).splitlines() == [
        "--non-interactive up",
        str(tmp_path.resolve()),
        "1",
        "no input",
    ]


def test_engine_sees_no_secret_of_ours(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAKI_TELEGRAM_TOKEN", "123456:very-secret")
    monkeypatch.setenv("PULUMI_ACCESS_TOKEN", "another-secret")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    seen = _run(engine("env"), tmp_path)
    assert "very-secret" not in seen
    assert "another-secret" not in seen
    assert "DOCKER_HOST=unix:///run/other.sock" in seen


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'error: boom' >&2; exit 255", CommandError),
        ("echo \"error: no stack named 'x' found\" >&2; exit 255", StackNotFoundError),
        ("echo 'error: the stack is currently locked by 1 lock(s)' >&2; exit 255", ConcurrentUpdateError),
    ],
)
def test_failures_are_the_librarys(engine: Engine, tmp_path: Path, script: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        _run(engine(script), tmp_path)


@pytest.mark.parametrize("script", [POLITE, SLOW, DEAF])
def test_engine_out_of_time_is_ended(engine: Engine, tmp_path: Path, script: str) -> None:
    with pytest.raises(EngineTimedOut):
        _run(engine(script, timeout=0.1, grace=0.1), tmp_path)


@pytest.mark.parametrize(("script", "said"), [(POLITE, ["interrupted"]), (SLOW, ["once", "twice"])])
def test_engine_is_asked_to_end_before_it_is_killed(
    engine: Engine, tmp_path: Path, script: str, said: list[str]
) -> None:
    lines: list[str] = []
    stop = threading.Event()

    def follow(line: str) -> None:
        lines.append(line)
        stop.set()

    with pytest.raises(EngineStopped):
        _run(engine(script, grace=2, stop=stop), tmp_path, follow)
    assert lines == ["started", *said]


def test_engine_that_does_not_listen_is_killed_with_its_plugins(engine: Engine, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(EngineStopped):
        _run(engine(DEAF, grace=0.1, stop=stop), tmp_path, lambda _line: stop.set())
    plugin = int((tmp_path / "plugin").read_text())
    _until(lambda: not _alive(plugin))


def test_plugins_of_a_killed_engine_do_not_outlive_it(engine: Engine, tmp_path: Path) -> None:
    script = "(exec sleep 600) & echo $! >plugin; echo $$; while :; do sleep 0.02; done"
    with pytest.raises(EngineDied):
        _run(engine(script), tmp_path, lambda line: os.kill(int(line), signal.SIGKILL))
    plugin = int((tmp_path / "plugin").read_text())
    _until(lambda: not _alive(plugin))


def test_nothing_starts_once_a_stop_was_asked_for(engine: Engine, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(EngineStopped):
        _run(engine("touch started", stop=stop), tmp_path)
    assert not (tmp_path / "started").exists()


def test_engine_that_was_done_when_it_was_asked_to_end_is_done(engine: Engine, tmp_path: Path) -> None:
    stop = threading.Event()
    script = "trap 'echo finished; exit 0' INT; echo started; while :; do sleep 0.02; done"
    assert _run(engine(script, stop=stop), tmp_path, lambda _line: stop.set()) == "started\nfinished"
