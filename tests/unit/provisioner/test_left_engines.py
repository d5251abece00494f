"""Plugins whose engine was killed are ended; whoever is still at work, or works for somebody else, is left alone."""

from __future__ import annotations

import asyncio
import contextlib
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
    """Starts a service with an engine and its plugin, which do nothing; the service, and the plugin's process id."""
    engine, plugin, never = tmp_path / "pulumi", tmp_path / "pulumi-resource-docker", tmp_path / "never"
    for program in (engine, plugin):
        shutil.copy("/bin/bash", program)
    os.mkfifo(never)
    with ExitStack() as stack:

        def started(state: Path) -> tuple[subprocess.Popen[str], int]:
            script = f"set -m; {plugin} -c 'read forever' <&3 >&2 & echo $!; exec >&2; read forever <&3"
            process = stack.enter_context(
                subprocess.Popen(
                    ["bash", "-c", f'exec 3<>{never}; setsid {engine} -c "$1" & wait', "service", script],
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
            stack.callback(_kill, os.getsid(found))
            return process, found

        yield started


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_plugins_go_once_their_engine_has(tmp_path: Path, start: Start) -> None:
    state, other = tmp_path / "mine", tmp_path / "other"
    service, plugin = start(state)
    _, anothers = start(other)
    engine = os.getsid(plugin)
    # As the engine has it: a plugin leads a group of its own.
    assert os.getpgid(plugin) == plugin != engine
    service.kill()
    service.wait()
    looking = asyncio.create_task(end_what_engines_left(state))
    await asyncio.sleep(0)
    assert _runs(plugin)
    os.kill(engine, signal.SIGKILL)
    async with asyncio.timeout(30):
        await looking
    assert not _runs(plugin)
    assert _runs(anothers)
