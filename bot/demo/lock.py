"""One demo for each state folder, and where the running one's simulator is."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class DemoRunning(Exception):
    """Another process holds the demo's state; the message says which and what to do."""


class NotTheDemos(Exception):
    """The folder belongs to a real service; the message says what to do."""


def is_demos(state: Path) -> bool:
    """Whether a demo has ever run with this folder."""
    return _lock_file(state).exists()


class DemoLock:
    """A lock that ends with the process that holds it, however it ends."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = _lock_file(state)
        self._file: IO[str] | None = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it during the block; raises :class:`DemoRunning`, or :class:`NotTheDemos`."""
        if (self._state / "db").exists() and not self._path.exists():
            raise NotTheDemos(
                f"{self._state} holds a real service's data, which no demo may touch; set ZAKI_STATE to another folder."
            )
        self._path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
        with self._path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemoRunning(
                    f"A demo already runs with {self._state}; stop it with Ctrl-C, or set ZAKI_STATE to another folder."
                ) from None
            self._file = file
            try:
                yield
            finally:
                file.truncate(0)
                self._file = None

    def announce(self, simulator: str) -> None:
        """Tell others the simulator's base URL, once people can use it."""
        if self._file is None:
            raise RuntimeError("announce() belongs inside hold()")
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "simulator": simulator}))
        self._file.flush()

    def running(self) -> str | None:
        """Base URL of the running demo's simulator; None where no demo runs, or where it still starts."""
        try:
            with self._path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return str(json.loads(file.read())["simulator"])
        except (FileNotFoundError, ValueError, KeyError):
            pass
        return None


def _lock_file(state: Path) -> Path:
    return state / "run" / "demo.lock"
