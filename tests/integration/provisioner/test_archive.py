"""Archives with the real restic; Docker and its volumes are stood in for."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from bot.credentials import ArchiveKey
from bot.provisioner import archive as archives
from bot.provisioner.archive import Archive, ArchiveError, ArchiveTooLarge, Saved
from bot.provisioner.containers import ContainerError, Containers, FileInVolume

ID = "u-lovelace00"
KEY = ArchiveKey(b"k" * 32)
PIECE = 64 * 1024


def tar_of(size: int) -> bytes:
    """A tar with a file of so many bytes that no compression makes smaller."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("node")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        entry = tarfile.TarInfo("node/notes")
        entry.size = size
        tar.addfile(entry, io.BytesIO(hashlib.shake_256(b"notes").digest(size)))
    return buffer.getvalue()


@dataclass
class Volume:
    """One instance's volume: what Docker says is in it, and what was put there."""

    tar: bytes
    entries: int = 2
    #: Raised after the last byte; None: the stream just ends.
    breaks: Exception | None = None
    paths: set[str] = field(default_factory=set)
    filled: bytes | None = None

    async def export(self, _instance_id: str) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(self.tar), PIECE):
            yield self.tar[start : start + PIECE]
        if self.breaks is not None:
            raise self.breaks

    async def has_entries(self, _instance_id: str, entries: int) -> bool:
        return self.entries == entries

    async def has_path(self, _instance_id: str, path: str) -> bool:
        return path in self.paths

    async def put_files(self, _instance_id: str, files: list[FileInVolume]) -> None:
        self.paths |= {file.path for file in files}

    async def put_tar(self, _instance_id: str, pieces: AsyncIterator[bytes]) -> None:
        came = b""
        async for piece in pieces:
            self.paths.add(".openclaw")
            came += piece
        self.filled = came

    async def settle(self, _instance_id: str, mark: str) -> None:
        self.paths.remove(mark)


def archive_of(volume: Volume, state: Path, key: ArchiveKey = KEY) -> Archive:
    """Archives below a state folder."""
    return Archive(state, key, cast(Containers, volume))


def kept(state: Path) -> list[str]:
    """What there is in the instance's folder."""
    return sorted(path.name for path in (state / "archives" / ID).iterdir())


CONTENT = tar_of(3_000_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Saved]:
    """A state folder with one archive, of `CONTENT`."""
    state = tmp_path_factory.mktemp("made")
    return state, asyncio.run(archive_of(Volume(CONTENT), state).save(ID))


@pytest.fixture
def saved(made: tuple[Path, Saved], tmp_path: Path) -> Saved:
    """That archive, below the test's own folder."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return made[1]


async def test_what_was_saved_comes_back_until_it_is_forgotten(saved: Saved, tmp_path: Path) -> None:
    volume = Volume(b"")
    archive = archive_of(volume, tmp_path)
    assert (saved.bytes, saved.files) == (len(CONTENT), 2)
    assert kept(tmp_path) == [saved.snapshot]
    assert await archive.ids() == {ID}
    assert await archive.latest(ID) == saved
    assert await archive.check(ID, saved.snapshot) == saved

    assert await archive.restore(ID, saved.snapshot)

    assert volume.filled == CONTENT
    assert volume.paths == {".openclaw"}
    await archive.forget(ID)
    await archive.forget(ID)
    assert await archive.ids() == set()
    assert await archive.latest(ID) is None
    assert list((tmp_path / "archives").iterdir()) == []


async def test_nobody_else_can_read_an_archive_or_its_password(saved: Saved, tmp_path: Path) -> None:
    assert (tmp_path / "archives" / ID).stat().st_mode & 0o077 == 0
    password = KEY.derive(ID)
    assert password != KEY.derive("u-lovelace01")
    files = [path for path in (tmp_path / "archives").rglob("*") if path.is_file()]
    assert saved.snapshot in {path.name for path in files}
    assert not any(password.encode() in path.read_bytes() for path in files)


async def test_a_volume_that_lived_since_is_not_overwritten(saved: Saved, tmp_path: Path) -> None:
    lived = Volume(b"", paths={".openclaw"})
    assert not await archive_of(lived, tmp_path).restore(ID, saved.snapshot)
    assert lived.filled is None


async def test_a_restore_that_was_cut_off_begins_anew(saved: Saved, tmp_path: Path) -> None:
    class Failing(Volume):
        async def put_tar(self, _instance_id: str, pieces: AsyncIterator[bytes]) -> None:
            self.paths.add(".openclaw")
            await anext(pieces)
            raise ContainerError("Docker did not fill the volume: no space left on device.")

    half = Failing(b"")
    with pytest.raises(ArchiveError, match="cannot be restored: Docker did not fill the volume: no space left"):
        await archive_of(half, tmp_path).restore(ID, saved.snapshot)
    assert processes_at(tmp_path) == []
    again = Volume(b"", paths=half.paths)
    assert await archive_of(again, tmp_path).restore(ID, saved.snapshot)
    assert again.filled == CONTENT


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        (Volume(CONTENT[:1_000_000]), "is broken \\(it ends in the middle\\)"),
        (Volume(CONTENT[:2_000_000], breaks=ContainerError("Docker broke off.")), "Docker broke off"),
        (Volume(b""), "is broken \\(it ends in the middle\\)"),
        (Volume(tar_of(1000), entries=3), "Docker left out some of its files"),
    ],
    ids=["ended early", "broke off", "nothing", "a file is missing"],
)
async def test_what_is_not_whole_is_no_archive(tmp_path: Path, volume: Volume, sentence: str) -> None:
    archive = archive_of(volume, tmp_path)
    with pytest.raises(ArchiveError, match=sentence):
        await archive.save(ID)
    assert kept(tmp_path) == []
    assert await archive.latest(ID) is None
    assert processes_at(tmp_path) == []


async def test_the_archive_before_stays_until_the_one_after_the_next(saved: Saved, tmp_path: Path) -> None:
    folder = tmp_path / "archives" / ID
    older = "0" * 64
    shutil.copytree(folder / saved.snapshot, folder / older)
    about = folder / older / "about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"saved_at": 1.0}))
    archive = archive_of(Volume(tar_of(100)), tmp_path)
    assert await archive.latest(ID) == saved
    newest = await archive.save(ID)
    assert kept(tmp_path) == sorted([saved.snapshot, newest.snapshot])
    assert await archive.latest(ID) == newest


async def test_a_failed_one_leaves_the_archive_before(saved: Saved, tmp_path: Path) -> None:
    archive = archive_of(Volume(tar_of(100)[:700]), tmp_path)
    with pytest.raises(ArchiveError):
        await archive.save(ID)
    assert kept(tmp_path) == [saved.snapshot]
    assert await archive.latest(ID) == saved


async def test_another_key_is_told(saved: Saved, tmp_path: Path) -> None:
    other = Volume(b"")
    with pytest.raises(ArchiveError, match=r"keys/archive.key is not the one .* put the old one back") as told:
        await archive_of(other, tmp_path, ArchiveKey(b"o" * 32)).restore(ID, saved.snapshot)
    assert ArchiveKey(b"o" * 32).derive(ID) not in str(told.value)
    assert other.filled is None


async def test_an_archive_that_is_gone_is_told(tmp_path: Path) -> None:
    for snapshot in ("0" * 64, "../..", ""):
        with pytest.raises(ArchiveError, match=r"is missing in .*/archives/u-lovelace00; put that folder back"):
            await archive_of(Volume(b""), tmp_path).restore(ID, snapshot)


async def test_a_damaged_archive_is_told(saved: Saved, tmp_path: Path) -> None:
    repository = tmp_path / "archives" / ID / saved.snapshot / "repository"
    packs = sorted(repository.glob("data/*/*"), key=lambda path: path.stat().st_size)
    packs[-1].chmod(0o600)
    with packs[-1].open("r+b") as pack:
        pack.seek(1000)
        pack.write(b"damaged")
    half = Volume(b"")
    with pytest.raises(ArchiveError):
        await archive_of(half, tmp_path).restore(ID, saved.snapshot)
    assert half.filled is None
    assert ".zaki-restoring" in half.paths


async def test_a_volume_that_is_too_large_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMIT", 2_000_000)
    with pytest.raises(ArchiveTooLarge, match="stays stopped and keeps its volume"):
        await archive_of(Volume(CONTENT), tmp_path).save(ID)
    assert kept(tmp_path) == []


async def test_the_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RESERVE", 2**60)
    with pytest.raises(ArchiveError, match=r"MiB would stay free on the disk of .*; free some room there"):
        await archive_of(Volume(tar_of(1000)), tmp_path).save(ID)
    assert kept(tmp_path) == []


async def test_without_restic_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArchiveError, match=r"restic is missing; run scripts/setup"):
        await archive_of(Volume(tar_of(1000)), tmp_path).save(ID)


async def test_one_that_is_cancelled_ends_at_once(tmp_path: Path) -> None:
    class Endless(Volume):
        async def export(self, _instance_id: str) -> AsyncGenerator[bytes, None]:
            yield self.tar[:PIECE]
            await asyncio.Event().wait()

    saving = asyncio.create_task(archive_of(Endless(CONTENT), tmp_path).save(ID))
    async with asyncio.timeout(60):
        while not processes_at(tmp_path):
            await asyncio.sleep(0.02)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert processes_at(tmp_path) == []
    assert kept(tmp_path) == []


_KILLED = """
import asyncio, pathlib, sys
from tests.integration.provisioner.test_archive import *

class Slow(Volume):
    async def export(self, _instance_id):
        yield self.tar[:2_000_000]
        print("under way", flush=True)
        await asyncio.Event().wait()

asyncio.run(archive_of(Slow(CONTENT), pathlib.Path(sys.argv[1])).save(ID))
"""


async def test_a_killed_one_is_no_archive_and_the_next_is(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, tmp_path, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"under way\n"
        [restic] = processes_at(tmp_path)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        while restic in processes_at(tmp_path):
            await asyncio.sleep(0.02)
    [draft] = kept(tmp_path)
    assert draft.startswith(".draft-")
    assert list((tmp_path / "archives" / ID / draft / "repository" / "snapshots").iterdir()) == []
    archive = archive_of(Volume(tar_of(1000)), tmp_path)
    assert await archive.latest(ID) is None
    again = await archive.save(ID)
    assert kept(tmp_path) == [again.snapshot]


def processes_at(state: Path) -> list[int]:
    """Programs that are at work on a repository below this folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                at_work = f"RESTIC_REPOSITORY={state}".encode() in (process / "environ").read_bytes()
            except OSError:
                continue
            if at_work:
                found.append(int(process.name))
    return found
