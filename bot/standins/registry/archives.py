"""Archives as publishers make them, and as attackers do."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_END = struct.Struct("<4s4H2LH")
_DATE = 0x21
_UTF8 = 0x800


@dataclass(frozen=True)
class Entry:
    """An entry as it stands in the archive, whether it makes sense or not."""

    name: str
    #: What is stored, deflated already where `method` is 8.
    stored: bytes = b""
    method: int = 0
    size: int | None = None
    crc: int = 0
    #: Unix mode and type.
    mode: int = stat.S_IFREG | 0o644


def pack(files: Mapping[str, bytes]) -> bytes:
    """A plain archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def odd(entries: Iterable[Entry]) -> bytes:
    """An archive of exactly these entries, which no library would write."""
    body, table, count = io.BytesIO(), io.BytesIO(), 0
    for entry in entries:
        name = entry.name.encode()
        size = len(entry.stored) if entry.size is None else entry.size
        offset = body.tell()
        common = (
            0 if entry.name.isascii() else _UTF8,
            entry.method,
            0,
            _DATE,
            entry.crc,
            len(entry.stored),
            size,
            len(name),
        )
        body.write(_LOCAL.pack(b"PK\x03\x04", 20, *common, 0))
        body.write(name)
        body.write(entry.stored)
        central = (b"PK\x01\x02", 20, 3, 20, 0, *common, 0, 0, 0, 0, entry.mode << 16, offset)
        table.write(_CENTRAL.pack(*central))
        table.write(name)
        count += 1
    told = min(count, 0xFFFF)
    end = _END.pack(b"PK\x05\x06", 0, 0, told, told, table.tell(), body.tell(), 0)
    return body.getvalue() + table.getvalue() + end


def with_entries(manifest: bytes, *entries: Entry) -> bytes:
    """An archive with a `SKILL.md` and these entries."""
    return odd([plain("SKILL.md", manifest), *entries])


def plain(name: str, content: bytes) -> Entry:
    """A file, stored as it is."""
    return Entry(name, content, crc=zlib.crc32(content))


def link(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, target.encode(), crc=zlib.crc32(target.encode()), mode=stat.S_IFLNK | 0o777)


def device(name: str) -> Entry:
    """A character device."""
    return Entry(name, mode=stat.S_IFCHR | 0o666)


def many_files(manifest: bytes, count: int) -> bytes:
    """An archive of so many empty files."""
    return odd([plain("SKILL.md", manifest), *(Entry(f"n/{number:x}") for number in range(count))])


def multitude(count: int) -> bytes:
    """An archive that names the same empty file so many times."""
    local = _LOCAL.pack(b"PK\x03\x04", 20, 0, 0, 0, _DATE, 0, 0, 0, 1, 0) + b"n"
    once = _CENTRAL.pack(b"PK\x01\x02", 20, 3, 20, 0, 0, 0, 0, _DATE, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"n"
    table = once * count
    return local + table + _END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(table), len(local), 0)


def bomb(manifest: bytes, gigabytes: int = 10) -> bytes:
    """An archive of a few megabytes that grows to so many gigabytes."""
    piece = 2**26
    zeros = bytes(piece)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = deflate.compress(zeros) + deflate.flush()
    crc = zlib.crc32(zeros)
    count = gigabytes * 2**30 // piece
    return with_entries(manifest, *(Entry(f"data/{number}.txt", stored, 8, piece, crc) for number in range(count)))
