"""Digests as the real clients compute them; the constants were read from their lock files."""

from __future__ import annotations

import hashlib

from bot.skills.digests import fingerprint, tree_digest
from bot.standins.registry import samples

CITY_WEATHER = "sha256:bda058eb652764651cddfc30cdf27b4f2e43d312ec8f42ea00b39a887f133d9a"


def hashes(slug: str) -> dict[str, str]:
    skill = next(skill for skill in samples() if skill.slug == slug)
    return {path: hashlib.sha256(content).hexdigest() for path, content in skill.latest.files.items()}


def test_a_folder_has_the_digest_that_openclaw_notes() -> None:
    assert tree_digest(hashes("city-weather")) == CITY_WEATHER


def test_what_clients_keep_beside_a_skill_does_not_count() -> None:
    files = hashes("tide-tables")
    assert tree_digest({**files, ".clawhub/origin.json": "0" * 64}) == tree_digest(files)


def test_names_folders_and_contents_count() -> None:
    one, two = "1" * 64, "2" * 64
    trees = [{"a": one}, {"a": two}, {"b": one}, {"a/b": one}, {"a/b": one, "c": one}, {"ab": one}]
    assert len({tree_digest(tree) for tree in trees}) == len(trees)


def test_a_fingerprint_follows_the_order_of_letters_not_of_bytes() -> None:
    one, two, three = "1" * 64, "2" * 64, "3" * 64
    ordered = f"data/x.csv:{two}\nSKILL.md:{one}\nzebra.md:{three}"
    files = {"zebra.md": three, "SKILL.md": one, "data/x.csv": two, ".hidden": one, "a/.hidden/b": two}
    assert fingerprint(files) == hashlib.sha256(ordered.encode()).hexdigest()
