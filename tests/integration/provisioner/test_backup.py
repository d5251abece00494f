"""Backups with the real restic and real databases; no Docker."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import select

from bot.credentials import ArchiveKey, load_key
from bot.provisioner.archive import Archive, ArchiveError
from bot.provisioner.backup import repository as repositories
from bot.provisioner.backup import saving
from bot.provisioner.backup.manifest import Copy, Held, Manifest
from bot.provisioner.backup.repository import HOST, TAR, Repository, RepositoryMissing
from bot.provisioner.backup.restoring import Refused, Restoring, require_empty, under_way
from bot.provisioner.backup.scratch import BackupRuns, FolderOfOthers, scratch_folder
from bot.provisioner.containers import Containers
from bot.provisioner.restic import ResticError
from bot.provisioner.skills import is_strange
from bot.settings import Settings
from bot.store import Database, now
from bot.store.copies import CopyFailed, copy_sqlite, dump_postgresql
from bot.store.tables import ContainerState, Instance, User, UserStatus, Wanted, Wish
from tests.integration.provisioner.test_archive import tar_of

KEY = "ab" * 32
ID = "u-lovelace00"
CONTENT = tar_of(2_000_000)


class NoContainers:
    """A Docker that has none."""

    async def observe(self, _instance_id: str) -> None:
        return None


async def pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


@pytest.fixture
async def repository(tmp_path: Path) -> Repository:
    """An empty one."""
    made = Repository(str(tmp_path / "backups"), KEY, tmp_path)
    with pytest.raises(RepositoryMissing, match="no backups in"):
        await made.open()
    await made.make()
    return made


async def test_a_stream_comes_back(repository: Repository) -> None:
    snapshot = await repository.keep_tar(pieces(CONTENT), ID)
    assert await repository.read_all(snapshot, TAR) == CONTENT
    (found,) = await repository.snapshots()
    assert (found.id, found.tags) == (snapshot, frozenset({"instance", ID}))
    await repository.check()


async def test_a_wrong_key_is_told_and_not_shown(repository: Repository, tmp_path: Path) -> None:
    other = Repository(repository.place, "cd" * 32, tmp_path)
    with pytest.raises(ResticError, match="The key is not the one that the backups in") as caught:
        await other.open()
    assert "cdcd" not in str(caught.value)


async def test_restic_gets_what_lets_it_into_a_repository_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "restic"
    program.write_text('#!/bin/sh\necho "$RESTIC_REPOSITORY $AWS_ACCESS_KEY_ID" >"$TMPDIR/told"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of another")
    keys = {"AWS_ACCESS_KEY_ID": "mine"}
    await Repository("s3:https://s3.example/zaki", KEY, tmp_path, keys).unlock()
    assert (tmp_path / "told").read_text() == "s3:https://s3.example/zaki mine\n"
    login = {"RESTIC_REST_USERNAME": "me", "RESTIC_REST_PASSWORD": "p/@"}
    away = Repository("rest:https://b.example:8000/zaki", KEY, tmp_path, login)
    await away.unlock()
    assert (tmp_path / "told").read_text() == "rest:https://me:p%2F%40@b.example:8000/zaki of another\n"
    assert away.shown == "rest:https://b.example:8000/zaki"


async def test_a_lock_of_a_dead_process_holds_nobody_up(repository: Repository) -> None:
    await repository.keep_tar(pieces(CONTENT), ID)
    environment = {**os.environ, "RESTIC_REPOSITORY": repository.place, "RESTIC_PASSWORD": KEY}
    command = ["restic", "backup", "--quiet", "--stdin", "--host", "zaki"]
    locks = Path(repository.place) / "locks"
    read, write = os.pipe()
    dead = subprocess.Popen(command, stdin=read, env=environment)
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream:
        # Reads more than a pipe holds only once it has its lock.
        for _ in range(20):
            stream.write(os.urandom(1_000_000))
        dead.kill()
        dead.wait()
    assert list(locks.iterdir())
    with pytest.raises(ResticError, match="Another process works with the backups"):
        await repository.prune()
    assert len(await repository.snapshots()) == 1
    await repository.unlock()
    await repository.prune()
    assert not list(locks.iterdir())


async def test_a_disk_that_is_nearly_full_is_not_filled(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "RESERVE", 2**60)
    with pytest.raises(ResticError, match="would stay free on the disk of"):
        await repository.keep_tar(pieces(CONTENT), ID)
    assert await repository.snapshots() == []


async def test_one_backup_at_a_time_and_nothing_of_a_killed_one(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / TAR).write_bytes(b"somebody's")
        with pytest.raises(BackupRuns), scratch_folder(tmp_path):
            pass
        assert (folder / TAR).exists()
    assert not list(folder.iterdir())


def test_a_link_in_the_place_of_its_folder_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("somebody's")
    for target in (theirs, theirs / "file", tmp_path / "nowhere"):
        (tmp_path / ".backup").symlink_to(target)
        with pytest.raises(FolderOfOthers, match="is a link or a file"), scratch_folder(tmp_path):
            pass
        (tmp_path / ".backup").unlink()
    assert (theirs / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_folder_of_another_user_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / ".backup"
    folder.mkdir()
    (folder / "file").write_text("somebody's")
    os.chown(folder, 65534, 65534)
    with pytest.raises(FolderOfOthers, match="is of the user 65534"), scratch_folder(tmp_path):
        pass
    assert (folder / "file").exists()


def copy_of(snapshot: str, content: bytes = CONTENT) -> Copy:
    sha256 = hashlib.sha256(content).hexdigest()
    return Copy(snapshot, len(content), 2, sha256, Held.STILL, 1.0, 2.0, next_job_at=99.0)


def test_what_a_backup_holds_is_read_as_it_was_written() -> None:
    manifest = Manifest(1.0, "sqlite", "0" * 64, {ID: copy_of("a" * 64)}, {"u-0000000000": "It is busy."})
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ValueError, match="newer Zaki"):
        Manifest.from_json(manifest.to_json().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="cannot be read"):
        Manifest.from_json("{}")


async def populated(database: Database) -> None:
    """Somebody whose instance is awake."""
    async with database.write() as session:
        user = User(telegram_id=7, status=UserStatus.ACTIVE, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, generation=5, asked_at=now()))
        session.add(
            Instance(
                id=ID,
                user_id=user.id,
                plan="standard",
                image="sha256:" + "0" * 64,
                created_at=now(),
                container=ContainerState.RUNNING,
                ready_at=now(),
                declared_hash="d",
                config_hash="c",
                lease_owner="dead",
                lease_until=now() + 999,
            )
        )


@pytest.mark.parametrize("wake", [False, True])
async def test_a_backup_comes_back_onto_an_empty_host(
    make_settings: Callable[..., Settings], database: Database, repository: Repository, tmp_path: Path, wake: bool
) -> None:
    await populated(database)
    state = tmp_path / "lost"
    for name in ("front", "provisioner", "archive"):
        load_key(state / "keys" / f"{name}.key")
    (state / "keys" / "front.key").chmod(0o640)
    (state / "stacks" / ID).mkdir(parents=True)
    copy = state / saving.DATABASE
    copy.parent.mkdir()
    if database.sqlite:
        copy_sqlite(Path(str(database.url.database)), copy)
    else:
        dump_postgresql(database.url, copy)
    kept = await repository.keep_tar(pieces(CONTENT), ID)
    manifest = Manifest(now(), database.url.get_backend_name(), "", {ID: copy_of(kept)})
    (state / saving.MANIFEST).write_text(manifest.to_json())
    host = await repository.keep_files(state, saving.KEPT)
    assert await saving.newest(repository) == saving.Backup(host, manifest)

    url = database.url.render_as_string(hide_password=False)
    if database.sqlite:
        url = f"sqlite+aiosqlite:///{tmp_path / 'new' / 'db' / 'zaki.sqlite3'}"
    settings = make_settings(state=tmp_path / "new", database_url=url)
    settings.state.mkdir()
    containers = cast(Containers, NoContainers())
    await database.close()
    if database.sqlite:
        await require_empty(settings)
    # Cut off in the middle, by a copy that is not what it was.
    broken = Manifest(manifest.at, manifest.database, "", {ID: copy_of(kept, b"another")})
    with pytest.raises(ArchiveError, match="not what went in"):
        await Restoring(settings, repository, containers, saving.Backup(host, broken)).restore(wake=wake)
    assert under_way(settings.state) == host
    assert not list((settings.state / "archives" / ID).iterdir())
    await Restoring(settings, repository, containers, saving.Backup(host, manifest)).restore(wake=wake)

    assert under_way(settings.state) is None
    assert (settings.state / "keys" / "front.key").stat().st_mode & 0o777 == 0o640
    restored = Database(settings.effective_database_url)
    try:
        async with restored.read() as session:
            both = select(Instance, Wish).join(Wish, Wish.user_id == Instance.user_id)
            instance, wish = (await session.execute(both)).one()
    finally:
        await restored.close()
    assert (instance.container, instance.declared_hash, instance.ready_at) == (ContainerState.NONE, None, None)
    assert (instance.lease_owner, instance.next_job_at, instance.resting_since is None) == (None, 99.0, False)
    # So whatever is recalled is looked for in it before it runs.
    assert is_strange(instance)
    assert wish.generation - instance.met_generation == int(wake)
    key = ArchiveKey(load_key(settings.state / "keys" / "archive.key"))
    archive = Archive(settings.state, key, containers)
    assert b"".join([piece async for piece in archive.read(ID, str(instance.archive))]) == CONTENT
    assert not (settings.state / "stacks").exists()
    with pytest.raises(Refused, match="empty"):
        await require_empty(settings)


async def test_what_is_kept_and_what_goes(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / saving.MANIFEST).parent.mkdir()
    hosts = []
    for _ in range(2):
        kept = await repository.keep_tar(pieces(CONTENT), ID)
        (tmp_path / saving.MANIFEST).write_text(Manifest(now(), "sqlite", "", {ID: copy_of(kept)}).to_json())
        hosts.append(await repository.keep_files(tmp_path, saving.KEPT))
    orphan = await repository.keep_tar(pieces(CONTENT + bytes(512)), ID)
    await saving.clean(repository, saving.Retention(daily=1, weekly=0))
    left = await repository.snapshots()
    assert [one.id for one in left if HOST in one.tags] == hosts[-1:]
    assert [one.id for one in left if HOST not in one.tags] == [kept]
    assert orphan not in {one.id for one in left}


async def test_without_its_program_a_server_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CopyFailed, match="pg_dump is missing; install postgresql-client"):
        dump_postgresql(Database("postgresql+asyncpg://nobody@127.0.0.1:9/none").url, tmp_path / "dump")
