"""Skills found in a volume's tar, and which version they are."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncGenerator

import pytest

from bot.provisioner.skills import folders
from bot.provisioner.skills.folders import Files, Folder, TooMuch, skills_in
from bot.skills.digests import tree_digest
from bot.skills.names import Reference, SkillName

SKILL = {"SKILL.md": b"# Tides\n", "data/tides.csv": b"high,low\n"}
HASHES = {path: hashlib.sha256(content).hexdigest() for path, content in SKILL.items()}
VERSION = Files(Reference(SkillName("samples", "tides"), "1.0.0"), tree_digest(HASHES), HASHES)
ORIGIN = b'{"slug": "tides", "ownerHandle": "samples", "installedVersion": "1.0.0"}'


def tar(files: dict[str, bytes], *entries: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        folders = sorted(
            {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
        )
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            made.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
        for entry in entries:
            made.addfile(entry)
    return buffer.getvalue()


async def read(content: bytes, at: str = "") -> list[Folder]:
    async def pieces() -> AsyncGenerator[bytes, None]:
        # Docker's pieces end anywhere.
        for start in range(0, len(content), 700):
            yield content[start : start + 700]

    return await skills_in(pieces(), at)


def below(folder: str, files: dict[str, bytes] = SKILL) -> dict[str, bytes]:
    return {f"node/{folder}/{path}": content for path, content in files.items()}


async def test_every_folder_with_a_skill_is_found_and_told() -> None:
    files = below("ws/skills/tides") | below("ws/skills/group/mine", {"SKILL.md": b"other"}) | {"node/a.txt": b"a"}
    found = {folder.path: folder.is_of(VERSION) for folder in await read(tar(files))}
    assert found == {"ws/skills/tides": True, "ws/skills/group/mine": False}


async def test_paths_begin_at_the_folder_that_was_read() -> None:
    files = {f"skills/tides/{path}": content for path, content in SKILL.items()}
    [folder] = await read(tar(files), ".openclaw/workspace/skills")
    assert folder.path == ".openclaw/workspace/skills/tides"
    assert folder.digest == VERSION.digest


async def test_what_a_client_notes_beside_it_counts_for_nothing() -> None:
    [folder] = await read(tar(below("tides") | {"node/tides/.clawhub/origin.json": ORIGIN}))
    assert folder.digest == VERSION.digest
    assert folder.origin["installedVersion"] == "1.0.0"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        # A copy that was used, with what that leaves.
        ({"node/tides/scripts/__pycache__/a.pyc": b"..."}, True),
        # One of its files was changed: an altered copy escapes, unless the client noted what it was.
        ({"node/tides/data/tides.csv": b"other"}, False),
        ({"node/tides/data/tides.csv": b"other", "node/tides/.clawhub/origin.json": ORIGIN}, True),
        ({"node/tides/data/tides.csv": b"other", "node/tides/.clawhub/origin.json": b"[" * 9999}, False),
    ],
)
async def test_a_copy_is_known_by_all_that_the_version_has(change: dict[str, bytes], same: bool) -> None:
    [folder] = await read(tar(below("tides") | change))
    assert folder.is_of(VERSION) is same


async def test_anothers_skill_of_the_same_name_is_another() -> None:
    origin = ORIGIN.replace(b"samples", b"others")
    [folder] = await read(tar({"node/tides/SKILL.md": b"?", "node/tides/.clawhub/origin.json": origin}))
    assert not folder.is_of(VERSION)


async def test_links_are_followed_where_they_are_files_and_make_no_digest() -> None:
    hard = tarfile.TarInfo("node/copy/SKILL.md")
    hard.type, hard.linkname = tarfile.LNKTYPE, "node/tides/SKILL.md"
    table = tarfile.TarInfo("node/copy/data/tides.csv")
    table.type, table.linkname = tarfile.LNKTYPE, "node/tides/data/tides.csv"
    found = {folder.path: folder for folder in await read(tar(below("tides"), hard, table))}
    assert found["copy"].digest is None
    assert found["copy"].is_of(VERSION)
    assert found["tides"].digest == VERSION.digest


async def test_an_empty_folder_counts() -> None:
    empty = tarfile.TarInfo("node/tides/empty")
    empty.type = tarfile.DIRTYPE
    [folder] = await read(tar(below("tides"), empty))
    assert folder.digest != VERSION.digest
    assert folder.is_of(VERSION)


async def test_nothing_there_is_no_skill() -> None:
    assert await read(b"") == []
    assert await read(tar({"node/a": b""})) == []


async def test_more_than_anybody_looks_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_ENTRIES", 3)
    with pytest.raises(TooMuch):
        await read(tar(below("tides")))
