"""The restic repository of backups, in a folder or wherever else restic can keep one."""

from __future__ import annotations

import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

from bot.disk import MIB
from bot.provisioner.restic import ResticError, Run, running, sentence
from bot.settings import BACKUP_VARIABLE

#: Tags of the two kinds of snapshots.
HOST, INSTANCE = "host", "instance"
#: Name of an instance's tar within its snapshot.
TAR = "home.tar"
#: Bytes that must stay free on the disk of a repository in a folder of this machine.
RESERVE = 512 * MIB
_LOOK_EVERY = 64 * MIB
#: restic's exit code where some of the files went away while it read them.
_INCOMPLETE = 3
#: Snapshots that are named in one command.
_AT_ONCE = 200
#: Variables that restic and the programs it calls need to reach a repository elsewhere.
_PASSED = re.compile(
    rf"{BACKUP_VARIABLE.pattern}|PATH|HOME|USER|LANG|SSH_AUTH_SOCK|https?_proxy", re.ASCII | re.IGNORECASE
)
_NOTHING: Mapping[str, str] = MappingProxyType({})
_URL = re.compile(r"(?:sftp|rest|s3|swift|b2|azure|gs|rclone|local):.+")


class RepositoryMissing(ResticError):
    """There is no repository yet."""


@dataclass(frozen=True)
class Snapshot:
    """What restic knows of one."""

    #: 64 hexadecimal digits.
    id: str
    #: As ISO 8601.
    time: str
    tags: frozenset[str]


class Repository:
    """Snapshots by their ids, made and read with one password; one process writes at a time."""

    def __init__(self, place: str, password: str, scratch: Path, variables: Mapping[str, str] = _NOTHING) -> None:
        """Work on a repository.

        Args:
            place: As restic takes it.
            password: What the snapshots are encrypted with.
            scratch: An existing folder for restic's own drafts.
            variables: What gets restic in there, besides those of this process.
        """
        self._folder = Path(place.removeprefix("local:")).expanduser().resolve() if is_local(place) else None
        self.place = str(self._folder or place)
        self._password = password
        self._scratch = scratch
        self._variables = variables

    @property
    def shown(self) -> str:
        """The place without passwords."""
        return shown(self.place)

    async def open(self) -> None:
        """Raises :class:`RepositoryMissing`, or :class:`ResticError` where it cannot be read."""
        await self._ask("cat", "--no-lock", "config")

    async def make(self) -> None:
        """Make it."""
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._ask("init")

    async def unlock(self) -> None:
        """Remove the locks of processes that are no longer there."""
        await self._ask("unlock")

    async def keep_tar(self, pieces: AsyncGenerator[bytes, None], instance_id: str) -> str:
        """Keep the tar of an instance; returns the snapshot's id."""
        arguments = ("backup", "--json", "--stdin", "--stdin-filename", TAR, *_tags(INSTANCE, instance_id))
        async with self._run(*arguments, stdin=True, stdout=True) as run, aclosing(self._bounded(pieces)) as bounded:
            try:
                async for piece in bounded:
                    await run.write(piece)
                run.close()
            except ConnectionError:
                # It is gone already, and says why.
                pass
            summary = await _all(run)
            await run.end(None)
        return await self._id(summary)

    async def keep_files(self, folder: Path, names: Sequence[str]) -> str:
        """Keep files and folders below `folder`, as far as they are there; returns the snapshot's id."""
        self._require_room()
        there = [name for name in names if (folder / name).exists()]
        async with self._run("backup", "--json", *_tags(HOST), *there, stdout=True, folder=folder) as run:
            summary = await _all(run)
            # What the services remove meanwhile is nothing that a backup needs.
            await run.end(None, fine=(0, _INCOMPLETE))
        return await self._id(summary)

    async def read(self, snapshot: str, path: str) -> AsyncGenerator[bytes, None]:
        """A file of a snapshot; raises :class:`ResticError` where it cannot be read to its end."""
        async with self._run("dump", "--no-lock", snapshot, path, stdout=True) as run:
            while piece := await run.read():
                yield piece
            await run.end()

    async def read_all(self, snapshot: str, path: str) -> bytes:
        """A small file of a snapshot."""
        async with aclosing(self.read(snapshot, path)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def unpack(self, snapshot: str, folder: Path) -> None:
        """Write all files of a snapshot below a folder, over what is there."""
        async with self._run("restore", snapshot, "--target", str(folder)) as run:
            await run.end(None)

    async def snapshots(self, *ids: str) -> list[Snapshot]:
        """All snapshots, or these, the oldest first."""
        found: list[dict[str, Any]] = json.loads(await self._ask("snapshots", "--no-lock", "--json", *ids)) or []
        listed = [Snapshot(one["id"], one["time"], frozenset(one.get("tags") or ())) for one in found]
        return sorted(listed, key=lambda one: one.time)

    async def retain(self, daily: int, weekly: int) -> None:
        """Forget the backups of the host but the last of so many days and weeks."""
        kept = ("--keep-last", "1", "--keep-daily", str(daily), "--keep-weekly", str(weekly))
        await self._ask("forget", "--tag", HOST, "--group-by", "", *kept)

    async def forget(self, ids: Iterable[str]) -> None:
        """Forget these snapshots."""
        named = list(ids)
        for start in range(0, len(named), _AT_ONCE):
            await self._ask("forget", *named[start : start + _AT_ONCE])

    async def prune(self) -> None:
        """Give back the room of what no snapshot holds any more."""
        await self._ask("prune")

    async def check(self) -> None:
        """Raise :class:`ResticError` where the repository is not whole."""
        await self._ask("check")

    async def _id(self, summary: bytes) -> str:
        for line in reversed(summary.splitlines()):
            said = json.loads(line)
            if said.get("message_type") == "summary":
                # restic names it by its first digits.
                (found,) = await self.snapshots(str(said["snapshot_id"]))
                return found.id
        raise ResticError(f"restic did not say what it kept in {self.shown}; back up again.")

    async def _ask(self, *arguments: str) -> bytes:
        async with self._run(*arguments, stdout=True) as run:
            said = await _all(run)
            await run.end(None)
        return said

    def _run(
        self, *arguments: str, stdin: bool = False, stdout: bool = False, folder: Path | None = None
    ) -> AbstractAsyncContextManager[Run]:
        return running(
            *arguments,
            environment=self._environment(),
            explain=self._explain,
            stdin=PIPE if stdin else DEVNULL,
            stdout=PIPE if stdout else DEVNULL,
            nice=True,
            folder=folder,
        )

    def _environment(self) -> dict[str, str]:
        passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        passed.update(self._variables)
        return {
            **passed,
            "PATH": os.environ.get("PATH", os.defpath),
            "RESTIC_REPOSITORY": _with_login(self.place, passed),
            "RESTIC_PASSWORD": self._password,
            "TMPDIR": str(self._scratch),
        }

    def _explain(self, said: str, code: int) -> ResticError:
        where = self.shown
        if "unable to open config file" in said or "Is there a repository" in said:
            return RepositoryMissing(f"There are no backups in {where}; set ZAKI_BACKUP to where they are.")
        if "wrong password" in said:
            return ResticError(
                f"The key is not the one that the backups in {where} were made with; "
                "give the one that `zaki backup key` printed."
            )
        if "no space left on device" in said or "disk quota exceeded" in said:
            return ResticError(f"The disk of {where} is full; free some room there, or set ZAKI_BACKUP elsewhere.")
        if "already locked" in said or "unable to create lock" in said:
            return ResticError(
                f"Another process works with the backups in {where}; try again when it is done. "
                "A lock that a lost machine left counts for half an hour."
            )
        return ResticError(sentence(said, code))

    async def _bounded(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Pass on what fits onto the repository's disk."""
        done = look_at = 0
        async with aclosing(pieces):
            async for piece in pieces:
                if done >= look_at:
                    look_at = done + _LOOK_EVERY
                    self._require_room()
                done += len(piece)
                yield piece

    def _require_room(self) -> None:
        if self._folder is not None and shutil.disk_usage(self._folder).free < RESERVE:
            raise ResticError(
                f"Less than {RESERVE // MIB} MiB would stay free on the disk of {self.shown}; "
                "free some room there, or set ZAKI_BACKUP to another place."
            )


def is_local(place: str) -> bool:
    """Whether a repository is in a folder of this machine."""
    return place.startswith("local:") or not _URL.fullmatch(place)


def shown(place: str) -> str:
    """A repository's place without the password that its URL may have."""
    kind, _, rest = place.partition(":")
    password = urlsplit(rest).password if kind == "rest" else None
    return place.replace(f":{password}@", ":***@") if password else place


def _with_login(place: str, variables: Mapping[str, str]) -> str:
    """The place with the login to a REST server, for which restic looks nowhere else before its version 0.17."""
    user, password = variables.get("RESTIC_REST_USERNAME"), variables.get("RESTIC_REST_PASSWORD")
    scheme, separator, rest = place.partition("://")
    if not scheme.startswith("rest:") or user is None or password is None or "@" in rest.partition("/")[0]:
        return place
    return f"{scheme}{separator}{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def _tags(*tags: str) -> tuple[str, ...]:
    return ("--host", "zaki", *(word for tag in tags for word in ("--tag", tag)))


async def _all(run: Run) -> bytes:
    """What it says until it ends, however long that takes."""
    said = b""
    while piece := await run.read(None):
        said += piece
    return said
