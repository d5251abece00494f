"""Digests of a skill's files, computed as the real clients do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

#: What clients keep beside a skill's files; no digest counts it.
CLIENT_FOLDERS = (".clawhub", ".clawdhub")
#: How ICU's root collation orders what ASCII has besides digits and letters, which come after these.
_PUNCTUATION = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"


def tree_digest(hashes: Mapping[str, str], folders: Iterable[str] = ()) -> str:
    """OpenClaw's `fileTreeSha256` of a folder, from the SHA-256 (hex) of each file by its path below the folder.

    Source: `digestClawHubSkillTree` of openclaw 2026.9.6. Folders are entries too, so an empty one counts and has to be
    among `folders`; archives that Zaki serves have none.
    """
    root: dict[str, Any] = {}
    for path in folders:
        folder = root
        for part in path.split("/"):
            folder = folder.setdefault(part, {})
    for path, sha256 in hashes.items():
        *folders, name = path.split("/")
        folder = root
        for part in folders:
            folder = folder.setdefault(part, {})
        folder[name] = sha256
    for name in CLIENT_FOLDERS:
        root.pop(name, None)
    text = json.dumps(list(_entries(root, "")), separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def fingerprint(hashes: Mapping[str, str]) -> str:
    """The hash by which `clawhub update` asks which version a folder is, from each file's SHA-256 (hex).

    Source: `buildSkillFingerprint` of clawhub 0.23.3, which leaves out what begins with a dot and orders paths as
    `localeCompare` does.
    """
    paths = [path for path in hashes if not any(part.startswith(".") for part in path.split("/"))]
    lines = "\n".join(f"{path}:{hashes[path]}" for path in sorted(paths, key=_locale_key))
    return hashlib.sha256(lines.encode()).hexdigest()


def _entries(folder: Mapping[str, Any], above: str) -> Iterable[dict[str, str]]:
    # JavaScript compares UTF-16.
    for name in sorted(folder, key=lambda text: text.encode("utf-16-be")):
        path, inside = above + name, folder[name]
        if isinstance(inside, str):
            yield {"path": path, "type": "file", "sha256": inside}
        else:
            yield {"path": path, "type": "directory"}
            yield from _entries(inside, path + "/")


def _locale_key(path: str) -> tuple[list[tuple[int, str]], list[bool]]:
    primary = []
    for char in path.lower():
        place = _PUNCTUATION.find(char)
        primary.append((place, "") if place >= 0 else (len(_PUNCTUATION), char))
    return primary, [char.isupper() for char in path]
