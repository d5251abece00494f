"""Which calls of instances may be made a second time because their first answer was not heard.

OpenClaw makes a call again at once where its connection breaks. If it broke because the front was killed after it had
kept the call, the person would see the message twice. So each message is noted in a file until its answer is on its
way; the first same call within a while after it was noted by a process that is gone is that one again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from bot.front.outbox.calls import BotCall, makes_messages

#: Seconds from a call to its repetition: the front's restart and what a client waits.
_WITHIN = 120.0
#: Bytes of the file after which it is written anew.
_LARGEST = 1 << 20


class Repeats:
    """The file `STATE/run/unheard`: a line for each message kept, and one for each answer given.

    It need not outlive the machine, where instances end too, so nothing waits for the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Rows whose answer is still to be given by this process, and when and what was asked.
        self._open: dict[int, tuple[float, str]] = {}
        #: Rows that an earlier process did not answer, by what was asked; oldest first.
        self._unheard: dict[str, list[tuple[float, int]]] = {}
        self._file: int | None = None

    def load(self) -> None:
        """Take over what an earlier process left."""
        left: dict[int, tuple[float, str]] = {}
        lines = self._path.read_text("ascii", "replace").splitlines() if self._path.exists() else []
        for line in lines:
            match line.split():
                case ["+", at, row, asked] if row.isdigit():
                    left[int(row)] = (float(at), asked)
                case ["-", row] if row.isdigit():
                    left.pop(int(row), None)
        for number, (noted_at, said) in left.items():
            if abs(time.time() - noted_at) < _WITHIN:
                self._unheard.setdefault(said, []).append((noted_at, number))
        with contextlib.suppress(OSError):
            self._rewrite()

    def take(self, call: BotCall) -> int | None:
        """The row that this call repeats; None: it repeats none. Each row is repeated once."""
        waiting = self._unheard.get(_asked(call)) if makes_messages(call.method) else None
        while waiting:
            at, row = waiting.pop(0)
            if abs(time.time() - at) < _WITHIN:
                self._note(row, at, _asked(call))
                return row
        return None

    def kept(self, row: int, call: BotCall) -> None:
        """The call is about to be committed as this row."""
        if makes_messages(call.method) and call.instance_id is not None:
            self._note(row, time.time(), _asked(call))

    def heard(self, row: int) -> None:
        """The row's answer is on its way, or will never be given."""
        if self._open.pop(row, None) is not None:
            self._append(f"- {row}\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _note(self, row: int, at: float, asked: str) -> None:
        self._open[row] = (at, asked)
        self._append(f"+ {at:.3f} {row} {asked}\n")

    def _append(self, line: str) -> None:
        # A full disk costs the note, not the message.
        with contextlib.suppress(OSError):
            if self._file is None or os.fstat(self._file).st_size > _LARGEST:
                self._rewrite()
            else:
                os.write(self._file, line.encode())

    def _rewrite(self) -> None:
        """Only what still matters."""
        self.close()
        known = [(at, row, asked) for row, (at, asked) in self._open.items()]
        known += [(at, row, asked) for asked, rows in self._unheard.items() for at, row in rows]
        self._path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text("".join(f"+ {at:.3f} {row} {asked}\n" for at, row, asked in sorted(known)))
        beside.chmod(0o600)
        beside.replace(self._path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _asked(call: BotCall) -> str:
    """What tells one call from another, without its words."""
    files = [(file.field, file.filename, file.size) for file in call.files]
    said = json.dumps([call.instance_id, call.method.lower(), call.params, files], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
