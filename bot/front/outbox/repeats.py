"""Which calls of instances may be made a second time because their first answer was not heard.

OpenClaw makes a call again at once where its connection breaks. If it broke because the front was killed after it had
kept the call, the person would see the message twice. So each message is noted in a file until its answer is on its
way; the first same call within a while after it was noted by a process that is gone is that one again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.credentials import FrontKey
from bot.front.outbox.calls import BotCall, makes_messages

#: Seconds from a call to its repetition: the front's restart and what a client waits.
_WITHIN = 120.0
#: Bytes of the file after which it is written anew, and those while every answer has been heard.
_LARGEST = 1 << 20
_LARGEST_IDLE = 16 << 10


class Repeats:
    """The file `STATE/run/unheard`: a line for each message kept, and one for each answer given.

    It need not outlive the machine, where instances end too, so nothing waits for the disk.
    """

    def __init__(self, path: Path, key: FrontKey) -> None:
        self._path = path
        self._key = key
        #: Rows whose answer is still to be given by this process, and when and what was asked.
        self._open: dict[int, tuple[float, str]] = {}
        #: Rows that an earlier process did not answer, by what was asked; oldest first.
        self._unheard: dict[str, list[tuple[float, int]]] = {}
        self._file: int | None = None

    def load(self) -> None:
        """Take over what an earlier process left; what cannot be read is not known."""
        left: dict[int, tuple[float, str]] = {}
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self._path.read_text("ascii", "replace").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError):
                match line.split():
                    case ["+", at, row, asked]:
                        left[int(row)] = (float(at), asked)
                    case ["-", row]:
                        left.pop(int(row), None)
        for number, (noted_at, said) in left.items():
            if abs(time.time() - noted_at) < _WITHIN:
                self._unheard.setdefault(said, []).append((noted_at, number))
        with contextlib.suppress(OSError):
            self._rewrite()

    def take(self, call: BotCall) -> tuple[float, int] | None:
        """When what this call repeats was noted (Unix seconds), and its row; None: it repeats none.

        Each row is repeated once. A row that was created after it was noted is another call's: see :meth:`void`.
        """
        if not self._unheard or not makes_messages(call.method):
            return None
        asked = self._asked(call)
        waiting = self._unheard.get(asked)
        while waiting:
            at, row = waiting.pop(0)
            # A row of this process has its id by chance: the earlier process's was never committed.
            if abs(time.time() - at) < _WITHIN and row not in self._open:
                self._note(row, at, asked)
                return at, row
        return None

    def void(self, at: float, row: int) -> None:
        """What was taken was never committed; the row may be another call's by now, whose note stays."""
        if row in self._open and self._open[row][0] == at:
            self.heard(row)

    def kept(self, row: int, call: BotCall) -> None:
        """The call is about to be committed as this row."""
        if makes_messages(call.method) and call.instance_id is not None:
            self._note(row, time.time(), self._asked(call))

    def doubtful(self, row: int) -> None:
        """The row was perhaps not committed, and whoever made the call is told so."""
        noted = self._open.pop(row, None)
        if noted is not None:
            at, asked = noted
            self._unheard.setdefault(asked, []).append((at, row))

    def heard(self, row: int) -> None:
        """The row's answer is on its way."""
        if self._open.pop(row, None) is not None:
            self._append(f"- {row}\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _note(self, row: int, at: float, asked: str) -> None:
        self._open[row] = (at, asked)
        self._append(_line(at, row, asked))

    def _append(self, line: str) -> None:
        # A full disk costs the note, not the message.
        with contextlib.suppress(OSError):
            if self._file is None or os.fstat(self._file).st_size > (_LARGEST if self._open else _LARGEST_IDLE):
                self._rewrite()
            else:
                os.write(self._file, line.encode())

    def _rewrite(self) -> None:
        """Only what still matters."""
        self.close()
        known = [(at, row, asked) for row, (at, asked) in self._open.items()]
        known += [
            (at, row, asked)
            for asked, rows in self._unheard.items()
            for at, row in rows
            if abs(time.time() - at) < _WITHIN
        ]
        self._path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text("".join(_line(*note) for note in sorted(known)))
        beside.chmod(0o600)
        beside.replace(self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _asked(self, call: BotCall) -> str:
        """What tells one call from another, without its words, which nobody can guess from it without the key."""
        # A client may name the parts of a request anew each time.
        parts = {f"attach://{file.field}": f"attach://{number}" for number, file in enumerate(call.files)}
        files = [(parts[f"attach://{file.field}"], file.filename, file.sha256) for file in call.files]
        said = json.dumps([call.instance_id, call.method.lower(), _renamed(call.params, parts), files], sort_keys=True)
        return self._key.sign("unheard", said)


def _line(at: float, row: int, asked: str) -> str:
    # Every digit of the time, which is compared with the row's own.
    return f"+ {at!r} {row} {asked}\n"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {name: _renamed(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value
