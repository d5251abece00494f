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
    found = {folder.path: folder.parts_of(VERSION) for folder in await read(tar(files))}
    assert found == {"ws/skills/tides": ["ws/skills/tides"], "ws/skills/group/mine": []}


async def test_a_manifest_in_small_letters_is_one_too() -> None:
    files = {"node/tides/skill.md": b"# Tides\n", "node/both/SKILL.md": b"a", "node/both/skill.md": b"b"}
    assert [folder.path for folder in await read(tar(files))] == ["both", "tides"]


async def test_paths_begin_at_the_folder_that_was_read() -> None:
    files = {f"skills/tides/{path}": content for path, content in SKILL.items()}
    [folder] = await read(tar(files), ".openclaw/workspace/skills")
    assert folder.path == ".openclaw/workspace/skills/tides"
    assert folder.digest == VERSION.digest


async def test_what_a_client_notes_beside_it_counts_for_nothing() -> None:
    [folder] = await read(tar(below("tides") | {"node/tides/.clawhub/origin.json": ORIGIN}))
    assert folder.digest == VERSION.digest
    assert folder.origin["installedVersion"] == "1.0.0"


ALL = ["tides/SKILL.md", "tides/data/tides.csv"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, ["tides"]),
        # A copy among other files, which may be the person's.
        ({"node/tides/diary.md": b"..."}, ALL),
        # One of its files was changed: an altered copy escapes, unless the client noted what it was.
        ({"node/tides/data/tides.csv": b"other"}, []),
        ({"node/tides/data/tides.csv": b"other", "node/tides/.clawhub/origin.json": ORIGIN}, ["tides"]),
        ({"node/tides/data/tides.csv": b"other", "node/tides/.clawhub/origin.json": b"[" * 9999}, []),
    ],
)
async def test_a_copy_is_known_by_all_that_the_version_has(change: dict[str, bytes], parts: list[str]) -> None:
    [folder] = await read(tar(below("tides") | change))
    assert sorted(folder.parts_of(VERSION)) == parts


@pytest.mark.parametrize("path", [".openclaw", ".openclaw/workspace", ".openclaw/workspace/skills"])
async def test_what_holds_all_else_never_goes_whole_whatever_a_note_says(path: str) -> None:
    [folder] = await read(tar(below(path) | {f"node/{path}/.clawhub/origin.json": ORIGIN}))
    assert sorted(folder.parts_of(VERSION)) == [f"{path}/SKILL.md", f"{path}/data/tides.csv"]
    assert folder.is_home


async def test_anothers_skill_of_the_same_name_is_another() -> None:
    origin = ORIGIN.replace(b"samples", b"others")
    [folder] = await read(tar({"node/tides/SKILL.md": b"?", "node/tides/.clawhub/origin.json": origin}))
    assert folder.parts_of(VERSION) == []


async def test_links_are_followed_where_they_are_files_and_make_no_digest() -> None:
    hard = tarfile.TarInfo("node/copy/SKILL.md")
    hard.type, hard.linkname = tarfile.LNKTYPE, "node/tides/SKILL.md"
    table = tarfile.TarInfo("node/copy/data/tides.csv")
    table.type, table.linkname = tarfile.LNKTYPE, "node/tides/data/tides.csv"
    found = {folder.path: folder for folder in await read(tar(below("tides"), hard, table))}
    assert found["copy"].digest is None
    assert sorted(found["copy"].parts_of(VERSION)) == ["copy/SKILL.md", "copy/data/tides.csv"]
    assert found["tides"].digest == VERSION.digest


async def test_an_empty_folder_counts() -> None:
    empty = tarfile.TarInfo("node/tides/empty")
    empty.type = tarfile.DIRTYPE
    [folder] = await read(tar(below("tides"), empty))
    assert folder.digest != VERSION.digest
    assert folder.parts_of(VERSION)


async def test_nothing_there_is_no_skill() -> None:
    assert await read(b"") == []
    assert await read(tar({"node/a": b""})) == []


async def test_more_than_anybody_looks_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_ENTRIES", 3)
    with pytest.raises(TooMuch):
        await read(tar(below("tides")))
