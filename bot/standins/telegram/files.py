"""Files that went through the simulated Telegram, in memory."""

import mimetypes
import secrets
import struct
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bot.standins.telegram.params import Upload

_FOLDERS = {
    "photo": ("photos", ".jpg"),
    "voice": ("voice", ".oga"),
    "video": ("videos", ".mp4"),
    "video_note": ("video_notes", ".mp4"),
    "animation": ("animations", ".mp4"),
    "audio": ("music", ".mp3"),
    "sticker": ("stickers", ".webp"),
    "document": ("documents", ""),
}
_PREFIXES = {"photo": "AgACAgIAAxkB", "voice": "AwACAgIAAxkB", "sticker": "CAACAgIAAxkB"}


@dataclass(frozen=True)
class StoredFile:
    """A file, its identifiers and the path that `getFile` gives out (guessable, as Telegram's are)."""

    kind: str
    file_id: str
    unique_id: str
    path: str
    name: str
    mime_type: str
    content: bytes = field(repr=False)
    #: Pixels; None if the content is no picture that we can read.
    dimensions: tuple[int, int] | None


@dataclass
class Files:
    _by_id: dict[str, StoredFile] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def store(self, kind: str, upload: Upload) -> StoredFile:
        """Keep a file of a kind as in `send<Kind>`."""
        folder, suffix = _FOLDERS[kind]
        self._numbers[folder] = number = self._numbers.get(folder, -1) + 1
        guessed = mimetypes.guess_type(upload.name)[0]
        stored = StoredFile(
            kind=kind,
            file_id=_PREFIXES.get(kind, "BQACAgIAAxkB") + secrets.token_urlsafe(45),
            unique_id="AgAD" + secrets.token_urlsafe(9),
            path=f"{folder}/file_{number}{suffix or PurePosixPath(upload.name).suffix}",
            name=upload.name,
            mime_type=guessed or upload.mime_type or "application/octet-stream",
            content=upload.content,
            dimensions=picture_dimensions(upload.content),
        )
        self._by_id[stored.file_id] = stored
        return stored

    def by_id(self, file_id: str) -> StoredFile | None:
        return self._by_id.get(file_id)

    def by_path(self, path: str) -> StoredFile | None:
        return next((stored for stored in self._by_id.values() if stored.path == path), None)

    def by_unique_id(self, unique_id: str) -> StoredFile | None:
        return next((stored for stored in self._by_id.values() if stored.unique_id == unique_id), None)

    def clear(self) -> None:
        """Forget the files; paths are not given out again."""
        self._by_id.clear()


def picture_dimensions(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF or JPEG; None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    if content[:6] in {b"GIF87a", b"GIF89a"} and len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        return width, height
    return _jpeg_dimensions(content) if content.startswith(b"\xff\xd8") else None


def _jpeg_dimensions(content: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None
