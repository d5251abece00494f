"""What a skill says of itself in the first lines of its `SKILL.md`, and what it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]

from bot.skills.inspection.archive import Bundle

#: Where the requirements are, OpenClaw's name for them first (docs: tools/skills.md, clawhub's skill-format.md).
_BLOCKS = ("openclaw", "clawdbot", "clawdis")
_LARGEST_HEAD = 32 * 1024
_DEEPEST = 20
#: libyaml where it is there; the loader in Python takes a time that grows with the square of the depth.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST = 100
_URL = re.compile(rb"https?://[^\s\"'<>)\]}`\\]{3,300}")
_MOST_URLS = 5000


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
    head = _head(bundle.manifest)
    metadata = head.get("metadata")
    block: Mapping[str, Any] = {}
    if isinstance(metadata, Mapping):
        block = next((metadata[name] for name in _BLOCKS if isinstance(metadata.get(name), Mapping)), {})
    requires = block.get("requires")
    requires = requires if isinstance(requires, Mapping) else {}
    envs = [*_words(requires.get("env")), *_words(block.get("primaryEnv"))]
    needs = {
        "bins": _words(requires.get("bins")),
        "any_bins": _words(requires.get("anyBins")),
        "env": envs,
        "config": _words(requires.get("config")),
        "os": _words(block.get("os")),
        "tools": _words(head.get("allowed-tools")),
        "installs": _installs(block.get("install")),
        "domains": _domains(bundle),
    }
    return Manifest(
        name=_text(head.get("name")),
        description=_text(head.get("description")),
        needs={kind: sorted(set(found)) for kind, found in needs.items() if found},
    )


def _head(manifest: bytes) -> Mapping[str, Any]:
    text = manifest[: _LARGEST_HEAD + 8].decode("utf-8", "replace").lstrip("\ufeff").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return {}
    head, end, _ = text[4:].partition("\n---")
    if not end:
        raise BadManifest("The first lines of its SKILL.md have no end.")
    try:
        _check_shape(head)
        found = yaml.load(head, Loader=_LOADER)  # noqa: S506 - one of the safe ones
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark is not None else ""
        raise BadManifest(f"The first lines of its SKILL.md are no YAML{where}.") from None
    return found if isinstance(found, Mapping) else {}


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


def _installs(value: object) -> list[str]:
    """What OpenClaw would offer to install, such as `brew: jq` or `download: https://…`."""
    found = []
    for entry in value[:_MOST] if isinstance(value, list) else ():
        if isinstance(entry, Mapping):
            what = next((entry[key] for key in ("formula", "package", "module", "url", "cask") if key in entry), "")
            found.append(f"{_text(entry.get('kind')) or 'something'}: {_text(what)}"[:300])
    return found


def _domains(bundle: Bundle) -> list[str]:
    found: set[str] = set()
    urls = 0
    for content in bundle.files.values():
        for match in _URL.finditer(content):
            urls += 1
            if urls > _MOST_URLS:
                return sorted(found)
            try:
                host = urlsplit(match[0].decode("ascii", "replace")).hostname
            except ValueError:
                continue
            if host and "." in host and len(found) < _MOST:
                found.add(host[:255])
    return sorted(found)


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value[:4000]) if part][:_MOST]
    values: Iterable[object] = value[:_MOST] if isinstance(value, list) else ()
    return [_text(one) for one in values if isinstance(one, str | int | float)]


def _text(value: object) -> str:
    return " ".join(str(value)[:1000].split()) if isinstance(value, str | int | float) else ""
