"""Zaki's two processes as systemd runs them: the sockets that the front listens on outlive it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from bot.listeners import listen
from bot.serve import Role

#: Passes the two sockets on as systemd does, at the numbers and under the process id that it promises.
_HAND_OVER = """
import fcntl, os, sys
for number, given in enumerate([fcntl.fcntl(int(word), fcntl.F_DUPFD, 10) for word in sys.argv[1:3]], 3):
    os.dup2(given, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""


class Roles:
    """`zaki serve --role front` and `--role provisioner`, each started again whenever it ends."""

    def __init__(self, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        """`environment` holds the service's settings; `folder` is where it runs, and `log` what it writes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
        self._environment = {**kept, **environment, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:bridge"}
        self._folder = folder
        self._log = log
        self._sockets: list[socket.socket] = []
        self._processes: dict[Role, asyncio.subprocess.Process] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._ours: set[int] = set()
        #: Ends that were nobody's doing: `front: exit code 1`.
        self.crashes: list[str] = []

    def bind(self, public: tuple[str, int], bridge: tuple[str, int]) -> None:
        """Listen from now on, also where nobody answers."""
        self._sockets = [listen(*public, "another port"), listen(*bridge, "another port", free=True)]

    async def start(self) -> None:
        """Start both."""
        for role in Role:
            await self._start(role)
            self._watching.append(asyncio.create_task(self._watch(role), name=f"watch {role}"))

    def pid(self, role: Role) -> int | None:
        """The process's id while it runs."""
        process = self._processes.get(role)
        return process.pid if process is not None and process.returncode is None else None

    def kill(self, role: Role) -> bool:
        """`kill -9`; False where it does not run."""
        pid = self.pid(role)
        if pid is None:
            return False
        self._ours.add(pid)
        os.kill(pid, signal.SIGKILL)
        return True

    async def stop(self) -> None:
        """End both as systemd would, and stop to listen."""
        for watching in self._watching:
            watching.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._watching.clear()
        for role, process in self._processes.items():
            if self.pid(role) is not None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()

    async def _watch(self, role: Role) -> None:
        while True:
            process = self._processes[role]
            code = await process.wait()
            if process.pid not in self._ours:
                self.crashes.append(f"{role}: exit code {code}")
                await asyncio.sleep(1.0)
            await self._start(role)

    async def _start(self, role: Role) -> None:
        program = Path(sys.executable).with_name("zaki")
        numbers = [listener.fileno() for listener in self._sockets]
        with self._log.open("ab") as log:
            self._processes[role] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-c", _HAND_OVER, *map(str, numbers)),
                *(str(program), "serve", "--role", role.value),
                env=self._environment,
                # Not in the checkout: its .env is a real service's.
                cwd=self._folder,
                pass_fds=numbers,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
