"""What is inside a skill's archive, read without unpacking it anywhere, and the archive that is served in its place."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bot.skills.digests import CLIENT_FOLDERS, fingerprint, tree_digest

#: Bytes of an archive, of all its files together, and of one of them. ClawHub takes 50 MB in all.
LARGEST_ARCHIVE = 32 * 2**20
LARGEST_CONTENT = 50 * 2**20
LARGEST_FILE = 10 * 2**20
#: Files in one archive, and bytes of its table of contents.
MOST_FILES = 1000
LARGEST_TABLE = 512 * 1024
_LONGEST_PATH = 240
_DEEPEST = 12

#: What the file itself is called.
MANIFESTS = ("SKILL.md", "skill.md")
#: What ClawHub puts into an archive by itself, anew for each download; left out, so that a version keeps its bytes.
GENERATED = frozenset({"_meta.json", "skill-card.md"})

_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_ENCRYPTED = 0x1
#: The date in every archive that Zaki makes.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PIECE = 64 * 1024


class BadArchive(Exception):
    """An archive that nobody should unpack; the message is a sentence that says why."""


@dataclass(frozen=True)
class Bundle:
    """The files of a skill, by path."""

    files: dict[str, bytes]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 (hex) of each file."""
        return {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}

    @cached_property
    def digest(self) -> str:
        """OpenClaw's digest of the unpacked folder."""
        return tree_digest(self.hashes)

    @cached_property
    def fingerprint(self) -> str:
        """The `clawhub` client's hash of the files."""
        return fingerprint(self.hashes)

    @property
    def manifest(self) -> bytes:
        """`SKILL.md`."""
        return next(self.files[name] for name in MANIFESTS if name in self.files)

    def pack(self) -> bytes:
        """A plain archive of exactly these files, the same for the same files.

        Clients unpack this one, never the registry's: what two readers of an odd archive could take differently
        is gone.
        """
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(self.files):
                entry = zipfile.ZipInfo(path, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, self.files[path])
        return packed.getvalue()


def read_bundle(path: Path) -> Bundle:
    """The files in an archive; raises :class:`BadArchive`. It blocks, and takes at most `LARGEST_CONTENT` of memory."""
    _look_at_end(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, UnicodeError) as error:
        raise BadArchive(f"Its archive cannot be read ({str(error)[:100] or type(error).__name__}).") from None
    except RuntimeError:
        raise BadArchive("Its archive has encrypted files, which nobody can look into.") from None


def _look_at_end(path: Path) -> None:
    """Refuse what is costly or ambiguous before a library reads the table of contents."""
    size = path.stat().st_size
    if size > LARGEST_ARCHIVE:
        raise BadArchive(f"Its archive is larger than {LARGEST_ARCHIVE // 2**20} MiB.")
    with path.open("rb") as file:
        file.seek(max(0, size - _END.size))
        tail = file.read()
    if len(tail) < _END.size or not tail.startswith(_END_MARK):
        raise BadArchive("Its archive is no zip file, or has something behind its end.")
    _, disk, start_disk, here, in_all, table, offset, comment = _END.unpack(tail)
    if disk or start_disk or here != in_all or comment:
        raise BadArchive("Its archive is in parts, or has a comment at its end.")
    if in_all > MOST_FILES:
        raise BadArchive(f"Its archive has more than {MOST_FILES} files.")
    if table > LARGEST_TABLE:
        raise BadArchive("Its archive has a table of contents that is far too large.")
    if offset + table != size - _END.size:
        raise BadArchive("Its archive has something before its beginning or between its parts.")


def _read(archive: zipfile.ZipFile) -> Bundle:
    files: dict[str, bytes] = {}
    seen: dict[str, str] = {}
    left = LARGEST_CONTENT
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise BadArchive(f"Its archive has more than {MOST_FILES} files.")
    for entry in entries:
        folder = _check_kind(entry)
        path = _check_path(entry.orig_filename.removesuffix("/") if folder else entry.orig_filename)
        for place in (path, *_above(path)):
            plain = unicodedata.normalize("NFC", place).casefold()
            if seen.setdefault(plain, place) != place:
                raise BadArchive(f"Its archive has {_shown(place)} twice, spelt differently.")
        if folder:
            continue
        if path in files:
            raise BadArchive(f"Its archive has {_shown(path)} twice.")
        content = b"".join(_pieces(archive, entry, min(left, LARGEST_FILE)))
        left -= len(content)
        if path not in GENERATED:
            files[path] = content
    for path in files:
        if any(above in files for above in _above(path)):
            raise BadArchive(f"Its archive has {_shown(path)} below a file.")
    if not any(name in files for name in MANIFESTS):
        raise BadArchive("Its archive has no SKILL.md at its top, so it is no skill.")
    within = next((path for path in files if path.endswith("/SKILL.md")), None)
    if within is not None and "SKILL.md" not in files:
        # OpenClaw loads no `skill.md`, and looks into the folders of one that has no `SKILL.md`.
        raise BadArchive(f"Its archive has a skill in a folder, {_shown(within)}, which would be loaded for its own.")
    return Bundle(files)


def _check_kind(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a folder; refuses what is neither folder nor file."""
    shown = _shown(entry.orig_filename)
    if entry.flag_bits & _ENCRYPTED:
        raise BadArchive("Its archive has encrypted files, which nobody can look into.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise BadArchive(f"Its archive has a link, {shown}.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"Its archive has {shown}, which is a device or the like.")
    folder = entry.orig_filename.endswith("/")
    if (kind == stat.S_IFDIR and not folder) or (kind == stat.S_IFREG and folder):
        raise BadArchive(f"Its archive has {shown}, which is both folder and file.")
    if folder and entry.file_size:
        raise BadArchive(f"Its archive has a folder with content, {shown}.")
    return folder


def _check_path(path: str) -> str:
    shown = _shown(path)
    if path.startswith("/") or "\\" in path or (len(path) > 1 and path[1] == ":"):
        raise BadArchive(f"Its archive has an absolute path, {shown}.")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for char in path):
        raise BadArchive(f"Its archive has a path with invisible characters, {shown}.")
    parts = path.split("/")
    if ".." in parts:
        raise BadArchive(f"Its archive has a path that leads out of its folder, {shown}.")
    if any(part in ("", ".") or part != part.strip() for part in parts):
        raise BadArchive(f"Its archive has an odd path, {shown}.")
    if len(path.encode()) > _LONGEST_PATH or len(parts) > _DEEPEST:
        raise BadArchive(f"Its archive has a path that is too long, {shown}.")
    if parts[0].casefold() in CLIENT_FOLDERS:
        raise BadArchive(f"Its archive has {shown}, which is where clients note what they installed.")
    return path


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> Iterator[bytes]:
    size = 0
    with archive.open(entry) as file:
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > most:
                limit = f"{LARGEST_FILE // 2**20} MiB a file, {LARGEST_CONTENT // 2**20} MiB in all"
                raise BadArchive(f"Its archive grows beyond what a skill may have ({limit}).")
            yield piece


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _shown(path: str) -> str:
    """A path of a stranger's, fit for a sentence."""
    return ascii(path[:80])
