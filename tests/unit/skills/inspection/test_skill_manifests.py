"""What a skill asks for is read from its first lines, and from nothing that could break the reader."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.skills.inspection.archive import Bundle
from bot.skills.inspection.manifest import BadManifest, Manifest, read_manifest


def read(head: str, **files: bytes) -> Manifest:
    return read_manifest(Bundle({"SKILL.md": f"---\n{head}\n---\n# Body\n".encode(), **files}))


def test_needs_are_read_in_the_form_that_openclaw_documents() -> None:
    found = read(
        "name: image-lab\ndescription: Makes images\nallowed-tools: Bash, Read\nmetadata:\n"
        '  {\n    "openclaw":\n      {\n        "requires": { "bins": ["uv"], "anyBins": ["jq", "yq"], '
        '"env": ["GEMINI_API_KEY"], "config": ["browser.enabled"] },\n'
        '        "primaryEnv": "GEMINI_API_KEY", "os": ["linux"],\n'
        '        "install": [{ "kind": "brew", "formula": "jq" }, '
        '{ "kind": "download", "url": "https://x.example/a" }],\n'
        "      },\n  }",
        **{"run.sh": b"curl https://api.example/v1 http://other.example:8080/x\n"},
    )
    assert (found.name, found.description) == ("image-lab", "Makes images")
    assert found.needs == {
        "bins": ["uv"],
        "any_bins": ["jq", "yq"],
        "env": ["GEMINI_API_KEY"],
        "config": ["browser.enabled"],
        "os": ["linux"],
        "tools": ["Bash", "Read"],
        "installs": ["brew: jq", "download: https://x.example/a"],
        "domains": ["api.example", "other.example", "x.example"],
    }


@pytest.mark.parametrize("name", ["clawdbot", "clawdis"])
def test_older_names_of_the_block_count(name: str) -> None:
    assert read(f"metadata:\n  {name}:\n    requires:\n      bins: [curl]").needs == {"bins": ["curl"]}


def test_a_skill_without_first_lines_asks_for_nothing() -> None:
    assert read_manifest(Bundle({"SKILL.md": b"# Only words\n"})) == Manifest("", "", {})


@pytest.mark.parametrize(
    "head",
    [
        "name: [", "a: &a [1]\nb: *a", "x: !!python/object/apply:os.system [id]", "\t- x", "name: x\x00",
        "x: " + "[" * 5000, "d: 9999-99-99",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(head: str) -> None:
    with pytest.raises(BadManifest, match=r"SKILL\.md.*\.$"):
        read(head)


def test_lines_without_an_end_are_a_sentence() -> None:
    with pytest.raises(BadManifest, match="no end"):
        read_manifest(Bundle({"SKILL.md": b"---\nname: x\n"}))


@pytest.mark.parametrize(
    "head", ["metadata: 5", "metadata:\n  openclaw: [1]", "metadata:\n  openclaw:\n    requires: yes\n    install: 7"]
)
def test_odd_types_ask_for_nothing(head: str) -> None:
    assert read(head).needs == {}


@settings(deadline=None)
@given(st.text())
def test_no_first_lines_break_the_reader(head: str) -> None:
    with contextlib.suppress(BadManifest):
        read(head)
