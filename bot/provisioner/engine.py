"""Runs the Pulumi engine: with a deadline, a graceful stop, and an environment that holds none of our secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import create_command_error
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from semver import VersionInfo

from bot.toolchain import Toolchain

#: What the engine and its plugins may see of our own environment: nothing of the settings.
_PASSED_ON = (
    *("HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR"),
    *("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_CONFIG", "DOCKER_CONTEXT"),
)

# Unless told otherwise, gRPC shares the state of a connection among a process's channels to one address. Ports come
# round: a channel of an engine that is gone, waiting to try again, made a new engine there unreachable at once
# ("Resource monitor has terminated").
_GRPC_CHANNEL_OPTIONS.append(("grpc.use_local_subchannel_pool", 1))

#: What the engine's process is called; its language hosts and plugins begin with it.
_ENGINE = "pulumi"
#: Seconds between two looks for what an earlier service's engines have left.
_LOOK_AFTER = 2.0


class EngineStopped(Exception):
    """The engine was told to stop before it was done."""


class EngineTimedOut(Exception):
    """The engine did not end in time and was stopped; what it had begun may be pending."""


class EngineDied(Exception):
    """The engine was killed by somebody else; what it had begun may be pending."""


class EngineCommand(PulumiCommand):
    """The library's runner knows neither deadline nor stop; this one asks with SIGINT, twice, before it kills."""

    def __init__(self, toolchain: Toolchain, *, timeout: float, grace: float, stop: threading.Event) -> None:
        """Wrap the pinned engine, without asking it for its version.

        Args:
            toolchain: Where the engine is.
            timeout: Seconds that one command may take.
            grace: Seconds that it gets after each SIGINT.
            stop: Set by anybody: the running command is asked to end, and no other one starts.
        """
        self.command = str(toolchain.pulumi_bin / "pulumi")
        self.version = VersionInfo.parse(toolchain.engine_version)
        self._timeout = timeout
        self._grace = grace
        self._stop = stop

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,
        on_error: Callable[[str], Any] | None = None,
    ) -> CommandResult:
        """Run a command to its end.

        Raises:
            CommandError: It failed.
            EngineTimedOut: It took too long and was stopped.
            EngineStopped: Somebody asked for it to stop.
            EngineDied: Somebody killed it.
        """
        if self._stop.is_set():
            raise EngineStopped
        process = subprocess.Popen(
            [self.command, "--non-interactive", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**passed_on(), **additional_env, "PULUMI_AUTOMATION_API": "true"},
            encoding="utf-8",
            errors="replace",
            # A Ctrl-C on our terminal must not reach it: we decide when and how it ends.
            start_new_session=True,
        )
        with process:
            output = _Reader(process.stdout, on_output)
            errors = _Reader(process.stderr, on_error)
            why = self._wait(process, output)
            if why is not None:
                self._end(process)
            # Whoever was killed has left plugins behind, and they hold its output open.
            if not output.ended(0) or process.wait() < 0:
                process.kill()
                process.wait()
                end_session(process.pid)
            output.join()
            errors.join()
            process.wait()
        if why is not None and process.returncode != 0:
            raise why
        if process.returncode < 0:
            raise EngineDied
        result = CommandResult(stdout=output.text, stderr=errors.text, code=process.returncode)
        if process.returncode != 0:
            raise create_command_error(result)
        return result

    def _wait(self, process: subprocess.Popen[str], output: _Reader) -> Exception | None:
        """Wait for the end of the command; returns why it must end before."""
        deadline = time.monotonic() + self._timeout
        while not output.ended(0.2) and process.poll() is None:
            if self._stop.is_set():
                return EngineStopped()
            if time.monotonic() > deadline:
                return EngineTimedOut()
        return None

    def _end(self, process: subprocess.Popen[str]) -> None:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._grace)
                return


class _Reader:
    """Collects the lines of a stream in a thread of its own."""

    def __init__(self, stream: IO[str] | None, on_line: Callable[[str], Any] | None) -> None:
        assert stream is not None  # noqa: S101 - opened as a pipe
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(stream, on_line), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[str], on_line: Callable[[str], Any] | None) -> None:
        for line in stream:
            self._lines.append(line.rstrip())
            if on_line is not None:
                on_line(self._lines[-1])

    def ended(self, timeout: float) -> bool:
        """Wait up to so many seconds; returns whether the stream has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join()

    @property
    def text(self) -> str:
        return "\n".join(self._lines)


async def end_what_engines_left(state: Path) -> None:
    """End plugins whose engine was killed together with the service that it worked for; return when none is left.

    They notice that it is gone only after minutes. An engine that is still at work is waited for.

    Args:
        state: The folder with the stacks.
    """
    while True:
        left, at_work = await asyncio.to_thread(_left_and_at_work, state)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left and not at_work:
            return
        await asyncio.sleep(_LOOK_AFTER)


def end_session(engine: int) -> None:
    """Kill what an engine that has ended has left running.

    Each plugin leads a process group of its own, in the session that the engine leads. A session's number is nobody
    else's while it has members.
    """
    for pid in _processes():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == engine:
                os.kill(pid, signal.SIGKILL)


def processes_on(state: Path) -> dict[int, str]:
    """Names of the engines, language hosts and plugins at work on the stacks below a folder, by their process ids."""
    mark = os.fsencode(state)
    found = {}
    for pid in _processes():
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            if name.startswith(_ENGINE) and mark in (process / "environ").read_bytes():
                found[pid] = name
    return found


def _left_and_at_work(state: Path) -> tuple[list[int], bool]:
    """Plugins whose session has neither an engine nor its leader any more; and whether others' engines are at work."""
    plugins, engines = dict[int, int](), set[int]()
    at_work = False
    for pid, name in processes_on(state).items():
        with contextlib.suppress(OSError):
            session = os.getsid(pid)
            if name != _ENGINE:
                plugins[pid] = session
                continue
            engines.add(session)
            at_work = at_work or _state(pid)[1] != str(os.getpid())
    return [pid for pid, one in plugins.items() if one not in engines and _state(one)[0] in "XZ"], at_work


def _state(pid: int) -> tuple[str, str]:
    """The state of a process, `X` where there is none and `Z` where it has ended, and the number of its parent."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", ""
    return state, parent


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def passed_on() -> dict[str, str]:
    """The part of our environment that the engine needs."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
