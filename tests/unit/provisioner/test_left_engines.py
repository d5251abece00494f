"""Plugins whose engine was killed are ended; whoever is still at work, or works for somebody else, is left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bot.provisioner.engine import end_what_engines_left

Start = Callable[[Path], tuple["subprocess.Popen[str]", int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an engine with a plugin, both of which do nothing, on a state folder; the engine and the plugin's pid."""
    engine, plugin = tmp_path / "pulumi", tmp_path / "pulumi-resource-docker"
    for program in (engine, plugin):
        shutil.copy("/bin/bash", program)
    with ExitStack() as stack:

        def started(state: Path) -> tuple[subprocess.Popen[str], int]:
            # A parent in between ends at once, as a service that was killed.
            script = f"set -m; {plugin} -c 'read forever' <&3 >&2 & echo $!; exec >&2; read forever <&3"
            process = stack.enter_context(
                subprocess.Popen(
                    ["bash", "-c", f'exec 3<>{tmp_path / "never"}; setsid {engine} -c "$1" & wait', "service", script],
                    env={"PULUMI_BACKEND_URL": f"file://{state}/stacks"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            assert process.stdout is not None
            found = int(process.stdout.readline())
            stack.callback(process.kill)
            stack.callback(_kill, found)
            stack.callback(_kill, _session_of(found))
            return process, found

        yield started


def _kill(pid: int) -> None:
    subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)


def _session_of(plugin: int) -> int:
    return os.getsid(plugin)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_plugins_go_once_their_engine_has(tmp_path: Path, start: Start) -> None:
    subprocess.run(["mkfifo", tmp_path / "never"], check=True)
    state, other = tmp_path / "mine", tmp_path / "other"
    service, plugin = start(state)
    _, anothers = start(other)
    engine = _session_of(plugin)
    # As the engine has it: a plugin leads a group of its own.
    assert os.getpgid(plugin) == plugin != engine
    service.kill()
    service.wait()
    looking = asyncio.create_task(end_what_engines_left(state))
    await asyncio.sleep(0)
    assert _runs(plugin)
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(engine)], check=True)
    async with asyncio.timeout(30):
        await looking
    assert not _runs(plugin)
    assert _runs(anothers)
