"""restic, which keeps a stream in a repository of its own: started here, watched, and ended with whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

#: Name of the stream within a snapshot.
_NAME = "home.tar"
#: Seconds without a byte moved after which a stream counts as stuck.
_STALLED = 120.0
#: Seconds for what is done at once: making a repository, or the end of a stream.
_DEADLINE = 300.0
_PIECE = 256 * 1024
_TAIL = 4096
_SNAPSHOT = re.compile(r"[0-9a-f]{64}")


class ResticError(Exception):
    """restic did not do it; the message is one sentence for the operator."""


class Restic:
    """One repository, made and read with one password. Nobody else may use the repository meanwhile."""

    def __init__(self, repository: Path, password: str) -> None:
        self._repository = repository
        self._password = password

    async def make(self) -> None:
        """Make the repository."""
        async with self._running("init", nice=True) as run:
            await run.end()

    async def keep(self, pieces: AsyncGenerator[bytes, None]) -> str:
        """Keep a stream in the new repository; returns the snapshot's full id.

        Where `pieces` raises, restic is killed before it could take what it has for the whole.
        """
        arguments = ("backup", "--stdin", "--stdin-filename", _NAME, "--host", "zaki")
        async with self._running(*arguments, stdin=PIPE, nice=True) as run, aclosing(pieces):
            try:
                async for piece in pieces:
                    await run.write(piece)
                run.close()
            except ConnectionError:
                # It is gone already, and says why.
                pass
            await run.end()
        kept = [path.name for path in (self._repository / "snapshots").iterdir() if _SNAPSHOT.fullmatch(path.name)]
        if len(kept) != 1:
            raise ResticError(f"restic kept {len(kept)} snapshots in {self._repository} where one belongs.")
        return kept[0]

    async def read(self, snapshot: str, *, nice: bool = False) -> AsyncGenerator[bytes, None]:
        """The stream that was kept; raises :class:`ResticError` where it cannot be read to its end."""
        async with self._running("dump", "--no-lock", snapshot, _NAME, stdout=PIPE, nice=nice) as run:
            while piece := await run.read():
                yield piece
            await run.end()

    @asynccontextmanager
    async def _running(
        self, *arguments: str, stdin: int = DEVNULL, stdout: int = DEVNULL, nice: bool = False
    ) -> AsyncIterator[_Run]:
        program = shutil.which("restic")
        if program is None:
            raise ResticError("restic is missing; run scripts/setup, which installs it.")
        # Should we be killed, it would find its input ended, and keep that as if it were whole.
        command = ["setpriv", "--pdeathsig", "KILL", *(["nice", "-n", "19"] if nice else []), program]
        try:
            process = await asyncio.create_subprocess_exec(
                *(*command, "--quiet", "--no-cache", *arguments),
                stdin=stdin,
                stdout=stdout,
                stderr=PIPE,
                env=self._environment(),
            )
        except OSError as error:
            raise ResticError(f"restic cannot be started ({error.strerror}); run scripts/setup.") from None
        run = _Run(process)
        try:
            yield run
        except TimeoutError:
            raise ResticError(f"restic did not move on in {self._repository}; look at the disk it is on.") from None
        finally:
            await run.kill()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "RESTIC_REPOSITORY": str(self._repository),
            "RESTIC_PASSWORD": self._password,
            # Its packs are written here first, so that they need no room elsewhere.
            "TMPDIR": str(self._repository.parent),
        }


class _Run:
    """restic at work."""

    def __init__(self, process: Process) -> None:
        self._process = process
        # Never None: it was asked for. Read all along, since restic would wait for that.
        self._said = asyncio.create_task(_tail(cast(StreamReader, process.stderr)))

    async def write(self, piece: bytes) -> None:
        stdin = cast(StreamWriter, self._process.stdin)
        stdin.write(piece)
        async with asyncio.timeout(_STALLED):
            await stdin.drain()

    def close(self) -> None:
        """Say that nothing more comes."""
        cast(StreamWriter, self._process.stdin).close()

    async def read(self) -> bytes:
        """What it gives next; nothing where it has ended."""
        async with asyncio.timeout(_STALLED):
            return await cast(StreamReader, self._process.stdout).read(_PIECE)

    async def end(self) -> None:
        """Wait for its end; raises :class:`ResticError` with what it said last, where it failed."""
        async with asyncio.timeout(_DEADLINE):
            code = await self._process.wait()
            said = await self._said
        if code != 0:
            raise ResticError(sentence(said.decode("utf-8", "replace"), code))

    async def kill(self) -> None:
        """End it at once, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdout is not None:
            # asyncio does not see the end of a process whose output nobody takes.
            while await self._process.stdout.read(_PIECE):
                pass
        await self._process.wait()
        self._said.cancel()
        await asyncio.gather(self._said, return_exceptions=True)


async def _tail(stream: StreamReader) -> bytes:
    said = b""
    while piece := await stream.read(_TAIL):
        said = (said + piece)[-_TAIL:]
    return said


def sentence(said: str, code: int) -> str:
    """What restic's complaint means for the operator."""
    if "wrong password" in said:
        return (
            "The key keys/archive.key is not the one that this archive was made with; "
            "put the old one back from your backup."
        )
    if "no space left on device" in said or "disk quota exceeded" in said:
        return "The disk of the state folder is full; free some room there."
    if "unable to open config file" in said:
        return "The archive's repository is damaged or gone; put it back from your backup."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"restic failed with exit code {code}: {lines[-1] if lines else 'it did not say why'}."
