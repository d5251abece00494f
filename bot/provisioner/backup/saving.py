"""Makes a backup: each instance's files as they are at one moment of it, then what the host keeps.

An instance is held for no longer than it takes to copy its files to this machine's own disk; what comes after that,
which is as slow as the repository, holds nobody up. The host's snapshot comes last and names the others: until it is
there, the backup before is the newest.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from sqlalchemy import select

from bot.disk import MIB, NO_ROOM
from bot.provisioner.app import Provisioner
from bot.provisioner.archive import LIMIT, RESERVE, ArchiveError
from bot.provisioner.backup.manifest import Copy, Held, Manifest
from bot.provisioner.backup.repository import HOST, INSTANCE, TAR, Repository, RepositoryMissing
from bot.provisioner.backup.scratch import FOLDER
from bot.provisioner.containers import ContainerError
from bot.provisioner.disks import DiskError
from bot.provisioner.facts import Sight
from bot.provisioner.gateway import GatewayError
from bot.provisioner.lease import LeaseHeld, LeaseLost
from bot.provisioner.tarstream import TarBroken, TarStream
from bot.provisioner.work import Refused
from bot.store import Database, now
from bot.store.copies import copy_sqlite, dump_postgresql
from bot.store.tables import ContainerState, Instance

_log = structlog.get_logger(__name__)

#: In the host's snapshot: what it holds, and the copy of the database.
MANIFEST = f"{FOLDER}/manifest.json"
DATABASE = f"{FOLDER}/database"
#: Below the state folder.
KEPT = ("keys", "stacks", "host-stack", "host.json", "spool", DATABASE, MANIFEST)
#: How often a busy instance is asked to hold still, with a pause of so many seconds between; then it is only frozen.
_ASKED = 3
PAUSE = 20.0
_PIECE = 256 * 1024
_LOOK_EVERY = 64 * MIB
#: Why one instance could not be copied; the others still are.
_TROUBLE = (Refused, LeaseHeld, LeaseLost, ContainerError, DiskError, ArchiveError, TarBroken, GatewayError, OSError)


class BackupError(Exception):
    """A backup cannot be made or read; the message is one sentence for the operator."""


@dataclass(frozen=True)
class Backup:
    """One that is in a repository."""

    #: 64 hexadecimal digits.
    snapshot: str
    manifest: Manifest


@dataclass(frozen=True)
class Retention:
    """Of how many days and weeks the last backup is kept."""

    daily: int = 7
    weekly: int = 4


class Saving:
    """Makes backups of a state folder."""

    def __init__(self, provisioner: Provisioner, repository: Repository, scratch: Path) -> None:
        """`scratch`: an empty folder, see :func:`bot.provisioner.backup.scratch.scratch_folder`."""
        self._provisioner = provisioner
        self._context = provisioner.context
        self._database: Database = provisioner.context.database
        self._repository = repository
        self._scratch = scratch

    async def save(self, retention: Retention) -> Backup:
        """Make a backup, and read back what was written; raises :class:`BackupError` or `ResticError`.

        Killed anywhere, it leaves the backups before as they were; the next one removes what is left.
        """
        try:
            await self._repository.open()
        except RepositoryMissing:
            await self._repository.make()
        await self._repository.unlock()
        await clean(self._repository, retention)
        before = await newest(self._repository)
        copies, troubles = await self._copy_all(before.manifest.copies if before is not None else {})
        manifest = await self._copy_database(copies, troubles)
        (self._scratch / "manifest.json").write_text(manifest.to_json())
        snapshot = await self._repository.keep_files(self._context.settings.state, KEPT)
        if await manifest_of(self._repository, snapshot) != manifest:
            raise BackupError(
                f"What was written to {self._repository.shown} cannot be read; look at the disk it is on."
            )
        await self._read_back(snapshot, f"/{DATABASE}", manifest.database_sha256)
        for key in sorted((self._context.settings.state / "keys").iterdir()):
            await self._read_back(snapshot, f"/keys/{key.name}", hashlib.sha256(key.read_bytes()).hexdigest())
        await self._repository.check()
        return Backup(snapshot, manifest)

    async def _copy_all(self, before: Mapping[str, Copy]) -> tuple[dict[str, Copy], dict[str, str]]:
        """The newest copy that there is of each person's instance, and why some are not of today."""
        async with self._database.read() as session:
            # Members of the pool are nobody's.
            ids = list(await session.scalars(select(Instance.id).where(Instance.user_id.is_not(None))))
        copies = {instance_id: before[instance_id] for instance_id in ids if instance_id in before}
        left, troubles = ids, dict[str, str]()
        for asked in range(1, _ASKED + 1):
            again = []
            for instance_id in left:
                try:
                    copy = await self._copy(instance_id, copies.get(instance_id), force=asked == _ASKED)
                except (Refused, LeaseHeld) as error:
                    again.append(instance_id)
                    troubles[instance_id] = str(error)
                except _TROUBLE as error:
                    troubles[instance_id] = _sentence(error)
                else:
                    troubles.pop(instance_id, None)
                    if copy is not None:
                        copies[instance_id] = copy
            left = again
            if not left:
                break
            if asked < _ASKED:
                await asyncio.sleep(PAUSE)
        for instance_id, why in troubles.items():
            _log.warning("an instance was not copied", instance=instance_id, reason=why)
        return copies, troubles

    async def _copy(self, instance_id: str, before: Copy | None, *, force: bool) -> Copy | None:
        """The files of one instance in a snapshot of their own; None where there are none, or it is gone."""
        tar = self._scratch / TAR

        async def read(sight: Sight, held: Held) -> Copy | None:
            return await self._read(sight, before, held, tar)

        try:
            copy = await self._provisioner.reconciler.read_still(instance_id, read, force=force)
            if copy is None or copy.snapshot:
                return copy
            snapshot = await self._repository.keep_tar(_pieces(tar), instance_id)
            await self._read_back(snapshot, TAR, copy.sha256)
            return replace(copy, snapshot=snapshot)
        finally:
            tar.unlink(missing_ok=True)

    async def _read(self, sight: Sight, before: Copy | None, held: Held, to: Path) -> Copy | None:
        """Copy the files to `to`, without a snapshot yet; a copy with one where nothing has changed since."""
        instance, context = sight.work.instance, self._context
        at = now()
        files: AsyncGenerator[bytes, None]
        restored = instance.archive is None or (
            sight.observed is not None and await context.archive.is_restored(instance.id)
        )
        if not restored and instance.archive is not None:
            if before is not None and before.archive == instance.archive:
                return replace(before, as_of=at)
            files = context.archive.read(instance.id, instance.archive)
        elif sight.observed is None:
            if instance.declared_hash is None:
                return None
            raise ContainerError(f"Its container is missing; run `zaki instance up {instance.id}`.")
        else:
            if sight.facts.container is ContainerState.CREATED and instance.config_hash is None:
                return None
            rests = instance.resting_since if held is Held.AT_REST else None
            if before is not None and rests is not None and before.archive is None and before.taken_at > rests:
                return replace(before, as_of=at)
            await context.mount_disk(instance)
            files = context.containers.export(instance.id, frozen=True)
        stream = TarStream()
        await _write(stream.watch(files), stream, to)
        stream.end()
        # Docker leaves a file out that it cannot read, and says so in its log alone.
        if restored and not await context.containers.has_entries(instance.id, stream.entries):
            raise ContainerError(
                "Docker left out some of its files; look at Docker's log and at the disk of its volumes."
            )
        return Copy(
            snapshot="",
            bytes=stream.bytes,
            files=stream.entries,
            sha256=stream.sha256,
            held=held,
            taken_at=at,
            as_of=at,
            archive=None if restored else instance.archive,
            next_job_at=instance.next_job_at,
        )

    async def _copy_database(self, copies: Mapping[str, Copy], troubles: Mapping[str, str]) -> Manifest:
        """The database after everything else, so that it knows of each copy whose it is."""
        to = self._scratch / Path(DATABASE).name
        url = self._database.url
        if not self._database.sqlite:
            await asyncio.to_thread(dump_postgresql, url, to)
        elif url.database is not None:
            await asyncio.to_thread(copy_sqlite, Path(url.database), to)
        async with self._database.read() as session:
            known = set(await session.scalars(select(Instance.id)))
        return Manifest(
            at=now(),
            database=url.get_backend_name(),
            database_sha256=await asyncio.to_thread(_checksum, to),
            # Whoever was deleted meanwhile is in no backup of today.
            copies={instance_id: copy for instance_id, copy in copies.items() if instance_id in known},
            troubles={instance_id: why for instance_id, why in troubles.items() if instance_id in known},
        )

    async def _read_back(self, snapshot: str, path: str, sha256: str) -> None:
        found = hashlib.sha256()
        async with aclosing(self._repository.read(snapshot, path)) as pieces:
            async for piece in pieces:
                found.update(piece)
        if found.hexdigest() != sha256:
            raise BackupError(
                f"What was written to {self._repository.shown} is not what came out of it again; "
                "look at the disk it is on."
            )


async def clean(repository: Repository, retention: Retention) -> None:
    """Forget what is kept no longer, and what a killed backup left."""
    await repository.retain(retention.daily, retention.weekly)
    there = await repository.snapshots()
    wanted: set[str] = set()
    for one in there:
        if HOST in one.tags:
            manifest = await manifest_of(repository, one.id)
            wanted |= {copy.snapshot for copy in manifest.copies.values()}
    await repository.forget(one.id for one in there if INSTANCE in one.tags and one.id not in wanted)
    await repository.prune()


async def backups(repository: Repository) -> list[Backup]:
    """All that there are, the newest first."""
    hosts = [one.id for one in await repository.snapshots() if HOST in one.tags]
    return [Backup(snapshot, await manifest_of(repository, snapshot)) for snapshot in reversed(hosts)]


async def newest(repository: Repository) -> Backup | None:
    """The newest, None where there is none."""
    hosts = [one.id for one in await repository.snapshots() if HOST in one.tags]
    return Backup(hosts[-1], await manifest_of(repository, hosts[-1])) if hosts else None


async def manifest_of(repository: Repository, snapshot: str) -> Manifest:
    """What a backup holds; raises :class:`BackupError` where that cannot be read."""
    try:
        return Manifest.from_json(await repository.read_all(snapshot, f"/{MANIFEST}"))
    except ValueError as error:
        raise BackupError(str(error)) from None


async def _write(pieces: AsyncGenerator[bytes, None], tar: TarStream, to: Path) -> None:
    """Write what fits onto this machine's disk."""
    look_at = 0
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        async with aclosing(pieces):
            async for piece in pieces:
                if tar.bytes > LIMIT:
                    raise ArchiveError(
                        f"It holds more than {LIMIT // MIB // 1024} GiB of files, too much for a backup."
                    )
                if tar.bytes >= look_at:
                    look_at = tar.bytes + _LOOK_EVERY
                    if shutil.disk_usage(to.parent).free < RESERVE:
                        raise ArchiveError(
                            f"Less than {RESERVE // MIB} MiB would stay free on the disk of {to.parent.parent}; "
                            "free some room there."
                        )
                await asyncio.to_thread(file.write, piece)


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The disk of the state folder is full; free some room there."
    return str(error)
