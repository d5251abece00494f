"""Brings a backup onto an empty host: people's files as archives, then keys and spool, the database last.

What is done is not done again, so a restore that was killed is begun anew with the same backup and goes on. While one
is under way the service does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL, func, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from bot.credentials import ArchiveKey, read_key
from bot.disk import RESTORING
from bot.provisioner.archive import Archive
from bot.provisioner.backup.manifest import Copy
from bot.provisioner.backup.repository import TAR, Repository
from bot.provisioner.backup.saving import DATABASE, Backup, BackupError
from bot.provisioner.backup.scratch import own_folder
from bot.provisioner.containers import Containers
from bot.settings import Settings
from bot.store import Database, now
from bot.store.copies import load_postgresql
from bot.store.tables import ContainerState, Instance, User, Wanted, Wish
from infra.spec import is_instance_id

_WHICH = "backup"


class Refused(BackupError):
    """There is something here that a restore would replace; the message names it."""


def under_way(state: Path) -> str | None:
    """The snapshot of the backup whose restore was begun here and did not end; None: there is none."""
    with contextlib.suppress(FileNotFoundError):
        return (state / RESTORING / _WHICH).read_text().strip()
    return None


async def require_empty(settings: Settings) -> None:
    """Raise :class:`Refused` where this state folder or database has anybody in it, or a service works with it."""
    state = settings.state
    for name in ("archives", "stacks"):
        found = [path.name for path in (state / name).iterdir()] if (state / name).is_dir() else []
        if any(is_instance_id(one) for one in found) and under_way(state) is None:
            raise Refused(f"{state / name} has somebody's in it; restore onto an empty ZAKI_STATE.")
    url = make_url(settings.effective_database_url)
    file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    if file is not None and not file.exists():
        return
    if file is not None and (by := _users_of(file)):
        raise Refused(f"Process {by} works with {file}; stop Zaki first.")
    database = Database(settings.effective_database_url)
    try:
        async with database.read() as session:
            others = await _others(session) if file is None else 0
            people = await _people(session)
    finally:
        await database.close()
    if others:
        raise Refused("Somebody works with the database; stop Zaki first.")
    if people and under_way(state) is None:
        raise Refused(f"The database has {people} people in it; restore into an empty one.")


class Restoring:
    """Brings one backup back."""

    def __init__(self, settings: Settings, repository: Repository, containers: Containers, backup: Backup) -> None:
        self._settings = settings
        self._state = settings.state
        self._repository = repository
        self._containers = containers
        self._backup = backup
        self._folder = settings.state / RESTORING
        self._files = self._folder / "files"

    async def restore(self, *, wake: bool) -> None:
        """Do it; `wake`: everybody who should be awake comes up at once, the others with their next message.

        Raises :class:`BackupError`, `FolderOfOthers`, `ArchiveError` or `ResticError`; run again, it goes on.
        """
        url = make_url(self._settings.effective_database_url)
        if url.get_backend_name() != self._backup.manifest.database:
            raise BackupError(
                f"The backup is of a {self._backup.manifest.database} database; "
                "set ZAKI_DATABASE_URL to one of that kind."
            )
        with own_folder(self._folder):
            _write(self._folder / _WHICH, self._backup.snapshot)
        await self._repository.unpack(self._backup.snapshot, self._files)
        archives = await self._bring_archives()
        await asyncio.to_thread(self._place_files)
        await self._place_stacks()
        await self._place_database(url, archives, wake=wake)
        os.sync()
        # First what says that it is under way no longer: half a folder must not be taken for one.
        (self._folder / _WHICH).unlink()
        await asyncio.to_thread(shutil.rmtree, self._folder)

    async def _bring_archives(self) -> dict[str, str]:
        """The snapshot of each instance's archive, which is made from its copy."""
        key = ArchiveKey(read_key(self._files / "keys" / "archive.key"))
        archive = Archive(self._state, key, self._containers)
        found = {}
        for instance_id, copy in self._backup.manifest.copies.items():
            saved = await archive.bring(instance_id, self._repository.read(copy.snapshot, TAR), copy.sha256)
            found[instance_id] = saved.snapshot
        return found

    def _place_files(self) -> None:
        """Keys and spool; what the host has of its own, such as where its bridge is, stays."""
        for name in ("keys", "spool"):
            source = self._files / name
            for path in sorted(source.iterdir()) if source.is_dir() else ():
                if path.is_file() and not path.is_symlink():
                    self._place(path, self._state / name / path.name)

    async def _place_stacks(self) -> None:
        """Stacks of containers that are still there; the others are declared anew with their instances."""
        source = self._files / "stacks"
        for path in sorted(source.iterdir()) if source.is_dir() else ():
            to = self._state / "stacks" / path.name
            if is_instance_id(path.name) and not to.exists() and await self._containers.observe(path.name):
                to.parent.mkdir(mode=0o750, exist_ok=True)
                await asyncio.to_thread(
                    shutil.copytree, path, draft := self._folder / f"stack-{path.name}", symlinks=True
                )
                draft.rename(to)

    def _place(self, source: Path, to: Path) -> None:
        """A file with the mode that it had; it is this machine's users' now."""
        to.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        draft = to.with_name(f".{to.name}.restored")
        draft.unlink(missing_ok=True)
        shutil.copyfile(source, draft)
        shutil.copystat(source, draft)
        # As a file that is made there: in a folder that hands its group down, that group's.
        folder = to.parent.stat()
        os.chown(draft, os.geteuid(), folder.st_gid if folder.st_mode & stat.S_ISGID else os.getegid())
        draft.chmod(stat.S_IMODE(source.stat().st_mode))
        draft.replace(to)

    async def _place_database(self, url: URL, archives: Mapping[str, str], *, wake: bool) -> None:
        copy = self._files / DATABASE
        if url.get_backend_name() != "sqlite":
            await asyncio.to_thread(load_postgresql, url, copy)
            await self._settle(Database(self._settings.effective_database_url), archives, wake=wake)
            return
        draft = self._folder / "database.sqlite3"
        shutil.copyfile(copy, draft)
        await self._settle(Database(f"sqlite+aiosqlite:///{draft}"), archives, wake=wake)
        with contextlib.closing(sqlite3.connect(draft)) as whole:
            # All of it in the one file that is moved.
            whole.execute("PRAGMA journal_mode=DELETE")
        # Makes the folder, and an empty database with the modes that both users need.
        present = Database(self._settings.effective_database_url)
        await present.migrate()
        await present.close()
        await asyncio.to_thread(_replace_database, Path(str(url.database)), draft)

    async def _settle(self, database: Database, archives: Mapping[str, str], *, wake: bool) -> None:
        """Bring the database to this version, and to what there is here: no containers, and archives."""
        try:
            await database.migrate()
            async with database.write() as session:
                await settle(session, archives, self._backup.manifest.copies, wake=wake)
        finally:
            await database.close()


async def settle(session: AsyncSession, archives: Mapping[str, str], copies: Mapping[str, Copy], *, wake: bool) -> None:
    """Have the rows say what there is on an empty host."""
    at = now()
    query = select(Instance, Wish).outerjoin(Wish, Wish.user_id == Instance.user_id)
    for instance, wish in (await session.execute(query)).all():
        instance.archive = archives.get(instance.id)
        instance.container = ContainerState.NONE
        instance.declared_hash = instance.config_hash = instance.volumes = instance.disk_told = None
        instance.ready_at = instance.fenced_at = instance.suspension_id = None
        instance.lease_owner, instance.lease_until, instance.repairs = None, 0.0, 0
        instance.resting_since = instance.resting_since or at
        instance.next_look_at = at
        if instance.next_job_at is None and instance.id in copies:
            instance.next_job_at = copies[instance.id].next_job_at
        if wish is not None and wish.wanted == Wanted.AWAKE:
            instance.met_generation = wish.generation - 1 if wake else wish.generation


async def _people(session: AsyncSession) -> int:
    """How many people the database knows of; none where it has no tables."""
    connection = await session.connection()
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(User.__tablename__)):
        return 0
    return await session.scalar(select(func.count()).select_from(User)) or 0


async def _others(session: AsyncSession) -> int:
    """How many other connections there are to a PostgreSQL database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return await session.scalar(text(query)) or 0


def _users_of(file: Path) -> int | None:
    """A process besides this one that has a file open; None where there is none."""
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if any(link.samefile(file) for link in (folder / "fd").iterdir() if link.exists()):
                return int(folder.name)
    return None


def _replace_database(present: Path, draft: Path) -> None:
    """Put a SQLite database in the place of one that nobody has open, with its owner and mode."""
    for suffix in ("-wal", "-shm"):
        present.with_name(present.name + suffix).unlink(missing_ok=True)
    found = present.stat()
    draft.chmod(stat.S_IMODE(found.st_mode))
    os.chown(draft, found.st_uid, found.st_gid)
    _sync(draft)
    draft.replace(present)


def _write(path: Path, line: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(line + "\n")
    _sync(draft)
    draft.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
