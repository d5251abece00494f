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


NEEDY = '{"openclaw": {"requires": {"bins": ["curl"]}}}'


def bins(manifest: str) -> list[str]:
    return read_manifest(Bundle({"SKILL.md": manifest.encode()})).needs.get("bins", [])


@pytest.mark.parametrize(
    "head",
    [
        f"metadata: '{NEEDY}'",
        f"metadata: |\n  {NEEDY}",
        "metadata: |\n  // JSON5\n  {openclaw: {requires: {bins: ['curl',],},},}",
        f'"metadata ": {NEEDY}',
        # YAML makes another key of it, JSON5, which OpenClaw reads such a line with, the same.
        NEEDY.replace("openclaw", r"op\enclaw").join(("metadata: ", "")),
        'metadata: {"openclaw": {"requires": {"bins": [["curl"]]}}}',
        'metadata: {"openclaw": {"requires": {"bins": "curl"}}}',
    ],
)
def test_needs_are_found_however_the_metadata_are_written(head: str) -> None:
    assert read(head).needs == {"bins": ["curl"]}


@pytest.mark.parametrize(
    "manifest",
    [
        f"--- \t\nmetadata: {NEEDY}\n---\n",
        f"---\nmetadata: {NEEDY}\n---  \nbody",
        f"---\rmetadata: {NEEDY}\r---\rbody",
        f"---\r\nmetadata: {NEEDY}\r\n---\r\nbody",
        f"---\u00a0\nmetadata: {NEEDY}\n---",
        f"\ufeff---\nmetadata: {NEEDY}\n---\n",
        # Only a line of its own is an end.
        f"---\nname: x\n---x: 1\nmetadata: {NEEDY}\n---\n",
    ],
)
def test_the_first_lines_begin_and_end_where_they_do_for_openclaw(manifest: str) -> None:
    assert bins(manifest) == ["curl"]


def test_nothing_stands_between_two_lines_that_follow_each_other() -> None:
    assert bins(f"---\n---\nmetadata: {NEEDY}\n---\n") == []


def test_characters_that_no_text_may_have_are_left_out() -> None:
    block = r'{"openclaw": {"requires": {"env": ["A\u0000B\ud800"]}}}'
    assert read(f"metadata: '{block}'").needs == {"env": ["AB?"]}


def test_what_is_installed_is_named_by_what_openclaw_goes_by() -> None:
    entries = (
        '{"kind": "download", "formula": "jq", "package": "jq", "url": "https://x.example/a"}, '
        '{"type": "UV", "package": "tool"}, {"kind": "brew", "cask": "app", "url": "https://y.example"}, '
        '{"kind": "else", "module": "m", "url": "u"}'
    )
    found = read('metadata: {"openclaw": {"install": [' + entries + "]}}").needs
    assert found["installs"] == ["brew: app", "download: https://x.example/a", "else: m u", "uv: tool"]


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("HTTPS://Api.Example/v1", ["api.example"]),
        ("wss://live.example:443/x ftp://files.example", ["files.example", "live.example"]),
        ("http://[2001:DB8::1]:80/ http://[not-one]/", ["2001:db8::1"]),
        ("http://3405803783/ http://0xcb007107 http://0313.0.0x71.7", ["203.0.113.7"]),
        (r"https:\/\/escaped.example\/x", ["escaped.example"]),
        ("https:///slashes.example", ["slashes.example"]),
        ("https://%65vil.example", ["evil.example"]),
        ("https://github.example:x@evil.example/", ["evil.example", "github.example"]),
        ("curl https://one.example;x@two.example", ["one.example", "two.example"]),
        ("[a](https://x.example). https://y.example. https://z.example，", ["x.example", "y.example", "z.example"]),
        ("file:///readme.md http://localhost:80 http://HOST/ C://", []),
    ],
)
def test_hosts_are_found_however_their_addresses_are_written(text: str, hosts: list[str]) -> None:
    found = read_manifest(Bundle({"SKILL.md": b"# x", "a": text.encode()})).needs
    assert found.get("domains", []) == hosts


def test_an_address_after_many_others_is_found() -> None:
    content = b"https://same.example/ " * 6000 + b"https://last.example/"
    assert read_manifest(Bundle({"SKILL.md": b"# x", "a": content})).needs["domains"] == [
        "last.example",
        "same.example",
    ]


MANY = ", ".join(f"n{number}" for number in range(101))
INSTALLS = ", ".join(f"{{kind: uv, package: n{number}}}" for number in range(101))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (f"metadata: {{openclaw: {{requires: {{bins: [{MANY}]}}}}}}", "more than 100 things"),
        (f"metadata: {{openclaw: {{requires: {{env: '{MANY}'}}}}}}", "more than 100 things"),
        (f"allowed-tools: {MANY}", "more than 100 things"),
        (f"metadata: {{openclaw: {{install: [{INSTALLS}]}}}}", "more than 100 things"),
        (f"metadata: {{openclaw: {{requires: {{bins: [{'x' * 1001}]}}}}}}", "more than 1000 characters"),
        (f"name: {'x' * 33_000}", "more than 32 KiB"),
        ("metadata: '{\"openclaw\": '", "no JSON"),
        ("metadata: '" + "[" * 5000 + "{'", "nested too deeply"),
        ("metadata: {}\n'metadata ': {}", "twice"),
        ("name: x\u2028metadata: {}", "ends of lines"),
        ("metadata: {openclaw: {os: [0x" + "f" * 5000 + "]}}", "too long"),
    ],
)
def test_what_would_hide_needs_is_refused(head: str, says: str) -> None:
    with pytest.raises(BadManifest, match=says):
        read(head)


def test_more_addresses_than_anybody_would_read_are_refused() -> None:
    content = " ".join(f"https://h{number}.example" for number in range(501)).encode()
    with pytest.raises(BadManifest, match="more than 500 addresses"):
        read_manifest(Bundle({"SKILL.md": b"# x", "a": content}))


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
    "head",
    [
        "metadata: 5",
        "metadata: none",
        "metadata:\n  openclaw: [1]",
        "metadata:\n  openclaw:\n    requires: yes\n    install: 7",
    ],
)
def test_odd_types_ask_for_nothing(head: str) -> None:
    assert read(head).needs == {}


@settings(deadline=None)
@given(st.text())
def test_no_first_lines_break_the_reader(head: str) -> None:
    with contextlib.suppress(BadManifest):
        read(head)
