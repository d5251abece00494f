"""What a skill says of itself in the first lines of its `SKILL.md`, and what it asks for.

They are read as OpenClaw reads them (`markdown-core/frontmatter`, 2026.9.6), so that nothing is asked of it that is not
shown here; where the two might differ, what either reads counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import json5
import yaml  # type: ignore[import-untyped]

from bot.skills.inspection.addresses import MOST_HOSTS, TooMany, hosts
from bot.skills.inspection.archive import Bundle

#: Where the requirements are, OpenClaw's name for them first (docs: tools/skills.md, clawhub's skill-format.md).
_BLOCKS = ("openclaw", "clawdbot", "clawdis")
_LARGEST_HEAD = 32 * 1024
_DEEPEST = 20
#: libyaml where it is there; the loader in Python takes a time that grows with the square of the depth.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Words of a kind, and characters of one.
_MOST = 100
_LONGEST = 1000
#: What JavaScript takes for blank, but for ends of lines.
_BLANK = "\t\v\f \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_OPENING = re.compile(f"---[{_BLANK}]*\n")
_CLOSING = re.compile(f"(?:\\A|\n)---[{_BLANK}]*(?:\n|\\Z)")
#: A value on the line of its key, which OpenClaw hands to JSON5 as it stands.
_METADATA_LINE = re.compile(f"^metadata:[{_BLANK}]*(.*)$", re.MULTILINE)
#: What names the thing, by how it is installed.
_INSTALLED = {
    "brew": ("formula", "cask"),
    "node": ("package",),
    "go": ("module",),
    "uv": ("package",),
    "download": ("url",),
}
_ANY_INSTALLED = ("formula", "cask", "package", "module", "url")


class BadManifest(Exception):
    """The first lines of `SKILL.md` cannot be read; the message is a sentence."""


@dataclass(frozen=True)
class Manifest:
    """What was found."""

    name: str
    description: str
    #: Lists of words by kind: `bins any_bins env config os domains installs tools`.
    needs: dict[str, list[str]] = field(default_factory=dict)


def read_manifest(bundle: Bundle) -> Manifest:
    """What the skill declares, and the hosts whose addresses its files name; raises :class:`BadManifest`."""
    text = _head_text(bundle.manifest)
    head = _head(text)
    try:
        return _manifest(bundle, head, list(_blocks(text, head)))
    except (RecursionError, ValueError):
        says = "The first lines of its SKILL.md are nested too deeply, or have a number that is too long."
        raise BadManifest(says) from None


def _manifest(bundle: Bundle, head: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> Manifest:
    requires = [block["requires"] for block in blocks if isinstance(block.get("requires"), Mapping)]

    def words(key: str, of: Sequence[Mapping[str, Any]]) -> set[str]:
        return {word for one in of for word in _words(one.get(key))}

    installs = {line for block in blocks for line in _installs(block.get("install"))}
    needs = {
        "bins": words("bins", requires),
        "any_bins": words("anyBins", requires),
        "env": words("env", requires) | words("primaryEnv", blocks),
        "config": words("config", requires),
        "os": words("os", blocks),
        "tools": words("allowed-tools", [head]),
        "installs": installs,
    }
    if any(len(found) > _MOST for found in needs.values()):
        raise BadManifest(f"Its SKILL.md asks for more than {_MOST} things of a kind, more than anybody would read.")
    try:
        needs["domains"] = hosts([*bundle.files.values(), "\n".join(installs).encode("utf-8", "replace")])
    except TooMany:
        raise BadManifest(f"Its files name more than {MOST_HOSTS} addresses, more than anybody would read.") from None
    return Manifest(
        name=_text(head.get("name")),
        description=_text(head.get("description")),
        needs={kind: sorted(found) for kind, found in needs.items() if found},
    )


def _head_text(manifest: bytes) -> str:
    """What stands between the lines `---`; empty where it does not begin with one."""
    text = manifest.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    opening = _OPENING.match(text)
    if opening is None:
        return ""
    closing = _CLOSING.search(text[opening.end() :])
    if closing is None:
        raise BadManifest("The first lines of its SKILL.md have no end.")
    head = text[opening.end() :][: closing.start()]
    if len(head) > _LARGEST_HEAD:
        raise BadManifest(f"The first lines of its SKILL.md are more than {_LARGEST_HEAD // 1024} KiB.")
    if any(end in head for end in "\x85\u2028\u2029"):
        # The end of a line to one reader of YAML, and none to another.
        raise BadManifest("The first lines of its SKILL.md have ends of lines that readers take differently.")
    return head


def _head(text: str) -> Mapping[str, Any]:
    try:
        _check_shape(text)
        found = yaml.load(text, Loader=_LOADER)  # noqa: S506 - one of the safe ones
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark is not None else ""
        raise BadManifest(f"The first lines of its SKILL.md are no YAML{where}.") from None
    if not isinstance(found, Mapping):
        return {}
    keys = [key for key in found if isinstance(key, str)]
    trimmed = {key.strip(" \t\u00a0\ufeff"): found[key] for key in keys}
    if len(trimmed) < len(keys):
        raise BadManifest("The first lines of its SKILL.md have a key twice, spelt differently.")
    return trimmed


def _blocks(text: str, head: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """OpenClaw's part of the metadata, once for each way in which it might be read."""
    metadata = head.get("metadata")
    if isinstance(metadata, str) and "{" in metadata:
        metadata = _json(metadata)
        if metadata is None:
            raise BadManifest("The metadata of its SKILL.md is a text that is no JSON.")
    for found in (metadata, *(_json(match[1]) for match in _METADATA_LINE.finditer(text))):
        if isinstance(found, Mapping):
            yield from [found[name] for name in _BLOCKS if isinstance(found.get(name), Mapping)][:1]


def _json(text: str) -> object:
    """A value of JSON, or of JSON5 as OpenClaw takes it too; None where it is neither."""
    try:
        return json.loads(text)
    except ValueError:
        try:
            return json5.loads(text)
        except ValueError:
            return None


def _check_shape(head: str) -> None:
    """Refuse what is cheap to write and dear to read."""
    depth = 0
    for event in yaml.parse(head, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            # A few lines of them grow into gigabytes.
            raise BadManifest("The first lines of its SKILL.md refer to each other.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise BadManifest("The first lines of its SKILL.md are nested too deeply.")


def _installs(value: object) -> Iterator[str]:
    """What OpenClaw would offer to install, such as `brew: jq` or `download: https://…`."""
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, Mapping):
            said = entry.get("kind") if isinstance(entry.get("kind"), str) else entry.get("type")
            kind = _text(said).lower()
            parts = _INSTALLED.get(kind, _ANY_INSTALLED)
            what = " ".join(word for part in parts for word in _words([entry.get(part)]))
            yield f"{kind or 'something'}: {what}"


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value)
    for one in value if isinstance(value, list) else ():
        if isinstance(one, list):
            # JavaScript makes one text of a list in a list.
            yield from _words(one)
        elif isinstance(one, str | int | float):
            word = _plain(str(one))
            if len(word) > _LONGEST:
                raise BadManifest(f"Its SKILL.md asks for something of more than {_LONGEST} characters.")
            if word:
                yield word


def _text(value: object) -> str:
    return _plain(str(value)[:_LONGEST]) if isinstance(value, str | int | float) else ""


def _plain(text: str) -> str:
    """In one line, without what no database or chat takes: NUL, and halves of characters."""
    return " ".join(text.replace("\0", "").encode("utf-8", "replace").decode().split())
