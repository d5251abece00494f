"""A tar read in passing: whether it is whole, what it holds and its checksum, in a few hundred bytes of memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_FILES = (b"\0", b"0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
#: Attributes of the next entry as PAX and GNU tar write them, and those of all entries.
_PAX, _GNU_NAMES, _GLOBAL = b"x", (b"K", b"L"), b"g"
_PAX_LIMIT = 1 << 20


class TarBroken(Exception):
    """The stream is no whole tar; the message is half a sentence that says what is wrong with it."""


class TarStream:
    """Fed with a tar piece by piece.

    A tar that was cut off anywhere is broken, and so is one with anything but zeros behind its end.
    """

    def __init__(self) -> None:
        #: Bytes so far.
        self.bytes = 0
        #: Files, folders, links and pipes so far, the topmost folder included.
        self.entries = 0
        self._hash = hashlib.sha256()
        self._header = bytearray()
        self._pax: bytearray | None = None
        self._pax_padding = 0
        self._size: int | None = None
        self._skip = 0
        self._zero_blocks = 0

    @property
    def sha256(self) -> str:
        """Checksum of all bytes so far."""
        return self._hash.hexdigest()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; raises :class:`TarBroken`."""
        self.bytes += len(piece)
        self._hash.update(piece)
        rest = memoryview(piece)
        while rest:
            if self._skip:
                taken = rest[: self._skip]
                if self._pax is not None:
                    self._pax += taken
                self._skip -= len(taken)
                if not self._skip and self._pax is not None:
                    self._size = _pax_size(bytes(self._pax[: len(self._pax) - self._pax_padding]))
                    self._pax = None
            else:
                taken = rest[: _BLOCK - len(self._header)]
                self._header += taken
                if len(self._header) == _BLOCK:
                    self._read_header(bytes(self._header))
                    self._header.clear()
            rest = rest[len(taken) :]

    def end(self) -> None:
        """Raise :class:`TarBroken` unless what was fed is a whole tar."""
        if self._zero_blocks < 2 or self._header or self._skip:
            raise TarBroken("it ends in the middle")

    async def watch(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Pass pieces on, each fed first; raises :class:`TarBroken` in place of ending where the tar is not whole."""
        async with aclosing(pieces):
            async for piece in pieces:
                self.feed(piece)
                yield piece
        self.end()

    def _read_header(self, header: bytes) -> None:
        if header == _ZEROS:
            self._zero_blocks += 1
            return
        if self._zero_blocks:
            raise TarBroken("something follows its end")
        if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise TarBroken("a header's checksum is wrong")
        kind = header[156:157]
        size = _number(header[124:136])
        if kind == _PAX:
            if size > _PAX_LIMIT:
                raise TarBroken("a header is too long")
            self._pax, self._pax_padding = bytearray(), -size % _BLOCK
        elif kind in _FILES or kind in _WITHOUT_CONTENT:
            self.entries += 1
            size = 0 if kind in _WITHOUT_CONTENT else size if self._size is None else self._size
            self._size = None
        elif kind not in _GNU_NAMES and kind != _GLOBAL:
            raise TarBroken(f"it has an entry of the unknown kind {kind!r}")
        self._skip = size + -size % _BLOCK


def _number(field: bytes) -> int:
    """A header's number: octal digits, or big-endian bytes behind a set first bit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise TarBroken("a header has no number where one belongs") from None


def _pax_size(records: bytes) -> int | None:
    """The size that PAX records (`LENGTH KEY=VALUE\\n`) give the next entry, if they do."""
    size = None
    try:
        while records:
            length = int(records[: records.index(b" ")])
            key, _, value = records[records.index(b" ") + 1 : length - 1].partition(b"=")
            if not 0 < length <= len(records):
                raise ValueError
            if key == b"size":
                size = int(value)
            records = records[length:]
    except ValueError:
        raise TarBroken("a header cannot be read") from None
    return size
