"""Instances that rested for weeks: their files in a backup on the host's disk, and back in a volume when they wake.

Each instance has a folder `STATE/archives/u-…`, with a folder for each archive that holds a restic repository and what
must come out of it. A repository is made for one archive and never written again, so none has locks to break, old data
to prune or half an archive beside a whole one; and deleting a person is removing a folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bot.credentials import ArchiveKey
from bot.disk import MIB, NO_ROOM
from bot.provisioner.containers import ContainerError, Containers, FileInVolume
from bot.provisioner.openclaw import STATE
from bot.provisioner.restic import Restic, ResticError
from bot.provisioner.tarstream import TarBroken, TarStream
from infra.spec import is_instance_id

#: Bytes that an archive may have before it is compressed; a file's holes count, and would be filled on the way back.
LIMIT = 16 * 1024 * MIB
#: Bytes that must stay free on the state folder's disk.
RESERVE = 512 * MIB
#: In a volume while it is being restored, below the home folder.
_MARK = ".zaki-restoring"
_ABOUT = "about.json"
_LOOK_EVERY = 64 * MIB
_SNAPSHOT = re.compile(r"[0-9a-f]{64}")


class ArchiveError(Exception):
    """An archive cannot be made, read or found; the message is one sentence for the operator. Nothing is lost by it."""


class ArchiveTooLarge(ArchiveError):
    """The volume holds more than an archive may; the instance stays stopped, its files in the volume."""


@dataclass(frozen=True)
class Saved:
    """An archive that was read back and found whole."""

    #: 64 hexadecimal digits.
    snapshot: str
    #: Length of the files as a tar, before compression.
    bytes: int
    #: Files, folders, links and pipes.
    files: int


@dataclass(frozen=True)
class _About:
    """What must come out of an archive."""

    bytes: int
    files: int
    sha256: str
    saved_at: float


class Archive:
    """The archives below a state folder; whoever calls holds the instance's lease."""

    def __init__(self, state: Path, key: ArchiveKey, containers: Containers) -> None:
        self._folder = state / "archives"
        self._key = key
        self._containers = containers
        self._one_at_a_time = asyncio.Semaphore()

    async def save(self, instance_id: str) -> Saved:
        """Archive the volume of an instance whose container does not run, and read the archive back.

        The container and the volume stay; once this has returned they may go. An older archive stays beside the new
        one until the next. Raises :class:`ArchiveError`, after which nothing of the attempt is left.
        """
        folder = self._of(instance_id)
        async with self._one_at_a_time:
            draft = folder / f".draft-{secrets.token_hex(4)}"
            try:
                await asyncio.to_thread(_prepare, folder, draft)
                saved, about = await self._fill(instance_id, draft)
                await asyncio.to_thread(_publish, draft, folder / saved.snapshot, about)
            except (ResticError, ContainerError) as error:
                raise ArchiveError(f"{instance_id} cannot be archived: {error}") from None
            except TarBroken as error:
                raise ArchiveError(
                    f"{instance_id} cannot be archived: the tar of its files that Docker sent is broken ({error}); "
                    "look at Docker's log and at the disk of its volumes."
                ) from None
            except OSError as error:
                raise ArchiveError(f"{instance_id} cannot be archived: {_trouble(folder, error)}") from None
            finally:
                await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
            return saved

    async def restore(self, instance_id: str, snapshot: str) -> bool:
        """Put an archive's files into the volume of a container that was declared and not yet started.

        To be called before anything else is put there. Killed and called again, it begins anew. False: the volume has
        the instance's files already, and nothing was changed. Raises :class:`ArchiveError`, after which the container
        must not be started.
        """
        restic, about = self._open(instance_id, snapshot)
        try:
            if await self.is_restored(instance_id):
                return False
            await self._containers.put_files(instance_id, [FileInVolume(_MARK, b"")])
            tar = TarStream()
            async with aclosing(_whole(restic.read(snapshot), tar, about)) as pieces:
                await self._containers.put_tar(instance_id, pieces)
            await self._containers.settle(instance_id, _MARK)
        except (ResticError, ContainerError) as error:
            raise ArchiveError(f"{instance_id} cannot be restored: {error}") from None
        except TarBroken as error:
            raise _damaged(instance_id, snapshot, error) from None
        return True

    async def is_restored(self, instance_id: str) -> bool:
        """Whether the volume of an instance that has a container holds its files, and not half of a restore."""
        has_files = await self._containers.has_path(instance_id, STATE)
        return has_files and not await self._containers.has_path(instance_id, _MARK)

    @property
    def busy(self) -> bool:
        """Whether one is being made; another would wait for it."""
        return self._one_at_a_time.locked()

    async def check(self, instance_id: str, snapshot: str) -> Saved:
        """Read all of an archive; raises :class:`ArchiveError` where it is not what was saved."""
        restic, about = self._open(instance_id, snapshot)
        tar = TarStream()
        try:
            async with aclosing(_whole(restic.read(snapshot, nice=True), tar, about)) as pieces:
                async for _ in pieces:
                    pass
        except ResticError as error:
            raise ArchiveError(f"The archive of {instance_id} cannot be read: {error}") from None
        except TarBroken as error:
            raise _damaged(instance_id, snapshot, error) from None
        return Saved(snapshot, about.bytes, about.files)

    async def latest(self, instance_id: str) -> Saved | None:
        """The newest whole archive of an instance, None where it has none."""

        def look() -> Saved | None:
            whole = _whole_ones(self._of(instance_id))
            if not whole:
                return None
            snapshot, about = whole[-1]
            return Saved(snapshot, about.bytes, about.files)

        return await asyncio.to_thread(look)

    async def forget(self, instance_id: str) -> None:
        """Remove every archive of an instance; none is fine."""
        try:
            await asyncio.to_thread(_remove, self._of(instance_id))
        except OSError as error:
            raise ArchiveError(
                f"The archive of {instance_id} cannot be removed ({error.strerror}); remove {self._of(instance_id)}."
            ) from None

    async def ids(self) -> set[str]:
        """Instances that have a folder with archives, or with what is left of one."""

        def look() -> set[str]:
            there = self._folder.iterdir() if self._folder.is_dir() else ()
            return {path.name for path in there if is_instance_id(path.name)}

        return await asyncio.to_thread(look)

    async def _fill(self, instance_id: str, draft: Path) -> tuple[Saved, _About]:
        restic = Restic(draft / "repository", self._key.derive(instance_id))
        await restic.make()
        tar = TarStream()
        files = self._containers.export(instance_id)
        snapshot = await restic.keep(_bounded(tar.watch(files), tar, instance_id, draft))
        tar.end()
        about = _About(tar.bytes, tar.entries, tar.sha256, time.time())
        async with aclosing(_whole(restic.read(snapshot, nice=True), TarStream(), about)) as pieces:
            async for _ in pieces:
                pass
        # Docker leaves a file out that it cannot read, and says so in its log alone.
        if not await self._containers.has_entries(instance_id, tar.entries):
            raise ArchiveError(
                f"{instance_id} cannot be archived: Docker left out some of its files; "
                "look at Docker's log and at the disk of its volumes."
            )
        return Saved(snapshot, tar.bytes, tar.entries), about

    def _open(self, instance_id: str, snapshot: str) -> tuple[Restic, _About]:
        folder = self._of(instance_id)
        about = _read_about(folder / snapshot) if _SNAPSHOT.fullmatch(snapshot) else None
        if about is None:
            raise ArchiveError(
                f"The archive {snapshot[:8]} of {instance_id} is missing in {folder}; "
                "put that folder back from your backup."
            )
        return Restic(folder / snapshot / "repository", self._key.derive(instance_id)), about

    def _of(self, instance_id: str) -> Path:
        if not is_instance_id(instance_id):
            raise ValueError(f"{instance_id!r} is no instance's id")
        return self._folder / instance_id


async def _bounded(
    pieces: AsyncGenerator[bytes, None], tar: TarStream, instance_id: str, folder: Path
) -> AsyncGenerator[bytes, None]:
    """Pass on what fits into an archive and onto the disk."""
    look_at = 0
    async with aclosing(pieces):
        async for piece in pieces:
            if tar.bytes > LIMIT:
                raise ArchiveTooLarge(
                    f"{instance_id} holds more than {LIMIT // MIB // 1024} GiB of files, too much for an archive; "
                    "it stays stopped and keeps its volume."
                )
            if tar.bytes >= look_at:
                look_at = tar.bytes + _LOOK_EVERY
                if shutil.disk_usage(folder).free < RESERVE:
                    raise ArchiveError(
                        f"{instance_id} cannot be archived: less than {RESERVE // MIB} MiB would stay free "
                        f"on the disk of {folder.parent}; free some room there."
                    )
            yield piece


async def _whole(pieces: AsyncGenerator[bytes, None], tar: TarStream, about: _About) -> AsyncGenerator[bytes, None]:
    """Pass pieces on; raises :class:`TarBroken` in place of ending where they are not what was saved."""
    async with aclosing(tar.watch(pieces)) as watched:
        async for piece in watched:
            yield piece
    if tar.sha256 != about.sha256:
        raise TarBroken("the checksum is another one")


def _damaged(instance_id: str, snapshot: str, error: TarBroken) -> ArchiveError:
    return ArchiveError(
        f"The archive {snapshot[:8]} of {instance_id} is damaged: {error}; put it back from your backup."
    )


def _trouble(folder: Path, error: OSError) -> str:
    if error.errno in NO_ROOM:
        return f"the disk of {folder.parent} is full; free some room there."
    return f"{folder.parent} cannot be written ({error.strerror}); give it to the user who runs Zaki."


def _prepare(folder: Path, draft: Path) -> None:
    """An empty draft, and nothing left of those that were given up."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.glob(".draft-*"):
        shutil.rmtree(old)
    draft.mkdir(mode=0o700)


def _publish(draft: Path, place: Path, about: _About) -> None:
    """The draft under its name, on the disk for good; the archive before stays, older ones go."""
    others = _whole_ones(place.parent)
    # The newest by its order, whatever was done to the clock meanwhile.
    about = replace(about, saved_at=max([about.saved_at, *(other.saved_at + 1.0 for _, other in others)]))
    (draft / _ABOUT).write_text(json.dumps(asdict(about)) + "\n")
    # Somebody removes the volume next, and a power cut must not take this with it.
    os.sync()
    draft.rename(place)
    os.sync()
    for snapshot, _ in others[:-1]:
        shutil.rmtree(place.with_name(snapshot))


def _whole_ones(folder: Path) -> list[tuple[str, _About]]:
    """Archives that are whole, oldest first."""
    there = folder.iterdir() if folder.is_dir() else ()
    read = [(path.name, _read_about(path)) for path in there if _SNAPSHOT.fullmatch(path.name)]
    return sorted(((name, about) for name, about in read if about is not None), key=lambda one: one[1].saved_at)


def _read_about(folder: Path) -> _About | None:
    try:
        return _About(**json.loads((folder / _ABOUT).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _remove(folder: Path) -> None:
    # First what makes them whole: one that is half gone must not be taken for an archive.
    for about in folder.glob(f"*/{_ABOUT}"):
        about.unlink()
    if folder.exists():
        shutil.rmtree(folder)
