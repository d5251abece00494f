"""Skills as they lie in an instance's volume: read through Docker, never by anything that the instance has."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from bisect import bisect_left
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from bot.skills.digests import CLIENT_FOLDERS, tree_digest
from bot.skills.inspection.archive import MANIFESTS
from bot.skills.names import Reference, SkillName

#: Where OpenClaw's client puts skills, below the home folder.
SKILLS = ".openclaw/workspace/skills"
#: Most bytes and entries that are read, and bytes of a client's note beside a skill.
MOST_BYTES = 8 * 2**30
MOST_ENTRIES = 500_000
_NOTE = 64 * 1024
_PIECE = 1 << 20
_ORIGIN = ".clawhub/origin.json"


class TooMuch(Exception):
    """There is more than anybody looks through; the message says how much."""


@dataclass(frozen=True)
class Files:
    """The files of a version as it was vetted, by path: SHA-256 in hex."""

    reference: Reference
    digest: str
    hashes: Mapping[str, str]


@dataclass
class Folder:
    """A folder that may be a skill: it has a SKILL.md."""

    #: Below the home folder.
    path: str
    #: SHA-256 (hex) of each file below.
    hashes: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    #: Whether there is something else than files and folders, of which no digest can be made.
    odd: bool = False
    #: What the client that installed it noted.
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        """OpenClaw's digest of it; None: it has none."""
        return None if self.odd else tree_digest(self.hashes, self.folders)

    def is_noted_as(self, name: SkillName) -> bool:
        """Whether the client that installed it says that it is this skill."""
        return self.origin.get("slug") == name.slug and self.origin.get("ownerHandle") in (None, name.owner)

    def parts_of(self, version: Files) -> list[str]:
        """What of it is this version, as paths below the home folder; none: it is something else.

        All of it where its digest says so, or the client's note; only the version's files where it has all of them
        beside something else, which may be the person's own.
        """
        noted = self.is_noted_as(version.reference.name)
        noted = noted and self.origin.get("installedVersion") == version.reference.version
        whole = noted or self.digest == version.digest
        if whole and not self.is_home:
            return [self.path]
        same = [path for path, sha256 in version.hashes.items() if self.hashes.get(path) == sha256]
        return [f"{self.path}/{path}" for path in same] if whole or len(same) == len(version.hashes) else []

    @property
    def is_home(self) -> bool:
        """Whether everything that the assistant has lies below it, so that it is no skill's, whatever a note says."""
        return f"{SKILLS}/".startswith(f"{self.path}/")


async def skills_in(pieces: AsyncGenerator[bytes, None], at: str) -> list[Folder]:
    """The skills below the top folder of a tar of Docker's, which is `at` below the home folder, or that itself.

    Raises :class:`TooMuch`.
    """
    loop = asyncio.get_running_loop()

    async def following() -> bytes:
        return await anext(pieces, b"")

    def pull() -> bytes:
        return asyncio.run_coroutine_threadsafe(following(), loop).result()

    async with aclosing(pieces):
        first = await following()
        if not first:
            return []
        return await asyncio.to_thread(lambda: list(_read(_Pieces(first, pull), at)))


class _Pieces(io.RawIOBase):
    """A stream of what comes piece by piece."""

    def __init__(self, first: bytes, pull: Any) -> None:
        self._rest = memoryview(first)
        self._pull = pull

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._pull())
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _read(stream: io.RawIOBase, at: str) -> Iterator[Folder]:
    hashes: dict[str, str] = {}
    folders: set[str] = set()
    odd: set[str] = set()
    notes: dict[str, bytes] = {}
    size = count = 0
    with tarfile.open(fileobj=io.BufferedReader(stream, _PIECE), mode="r|") as tar:
        while (entry := tar.next()) is not None:
            # It keeps every member, which nobody needs here.
            cast(Any, tar).members = []
            size, count = size + entry.size, count + 1
            if size > MOST_BYTES or count > MOST_ENTRIES:
                raise TooMuch(f"There are more than {MOST_ENTRIES:,} files or {MOST_BYTES // 2**30} GiB.")
            name = _below_top(entry.name)
            if entry.isdir():
                folders.add(name)
            elif entry.isfile():
                is_note = name.endswith(f"/{_ORIGIN}") and entry.size <= _NOTE
                hashes[name], kept = _take(tar, entry, keep=is_note)
                if is_note:
                    notes[name] = kept
            else:
                odd.add(name)
                if entry.islnk() and (linked := hashes.get(_below_top(entry.linkname))) is not None:
                    hashes[name] = linked
    names = sorted({*hashes, *odd})
    seen = ""
    beside = sorted(folders)
    for name in names:
        path, _, last = name.rpartition("/")
        if last not in MANIFESTS or not path or path == seen:
            continue
        seen = path
        below = f"{path}/"
        found = Folder(f"{at}/{path}" if at else path)
        for each in _starting(names, below):
            inside = each.removeprefix(below)
            found.odd = found.odd or each in odd
            if each in hashes and inside.partition("/")[0] not in CLIENT_FOLDERS:
                found.hashes[inside] = hashes[each]
        found.folders.update(each.removeprefix(below) for each in _starting(beside, below))
        found.origin = _json(notes.get(f"{below}{_ORIGIN}", b"{}"))
        yield found


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, *, keep: bool) -> tuple[str, bytes]:
    content = tar.extractfile(entry)
    sha256, kept = hashlib.sha256(), b""
    while content is not None and (piece := content.read(_PIECE)):
        sha256.update(piece)
        if keep:
            kept += piece
    return sha256.hexdigest(), kept


def _below_top(name: str) -> str:
    return name.rstrip("/").partition("/")[2]


def _starting(names: list[str], prefix: str) -> list[str]:
    """Those of sorted names that begin so."""
    # No path has a letter that sorts behind this one.
    return names[bisect_left(names, prefix) : bisect_left(names, prefix + "\U0010ffff")]


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
