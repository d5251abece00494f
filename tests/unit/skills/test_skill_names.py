"""Names of skills, as people and clients write them."""

from __future__ import annotations

import pytest

from bot.skills.names import BadName, SkillName, checked_version, parse
from bot.skills.rules import Scope, scope


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("@samples/city-weather", SkillName("samples", "city-weather"), None),
        ("samples/city-weather", SkillName("samples", "city-weather"), None),
        ("@Samples/x2@1.2.3-beta.1", SkillName("samples", "x2"), "1.2.3-beta.1"),
    ],
)
def test_names_are_read(text: str, name: SkillName, version: str | None) -> None:
    assert parse(text) == (name, version)


@pytest.mark.parametrize(
    "text",
    [
        "", "city-weather", "@samples", "@samples/", "@/x", "@samples/a/b", "@samples/..", "@samples/a..b", "@../x",
        "@samples/City", "@samples/wеather", "@samples/a b", "@samples/a%2fb", "@samples/x@../1",
        "@samples/x@" + "1" * 80, "@samples/" + "x" * 80,
    ],
)  # fmt: skip
def test_what_could_be_a_path_or_looks_like_another_is_no_name(text: str) -> None:
    with pytest.raises(BadName):
        parse(text)


@pytest.mark.parametrize("text", ["1/2", "..", "", "1.0 0", "latest\x00"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(BadName):
        checked_version(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("*", Scope()),
        ("@samples", Scope("samples")),
        ("@samples/x", Scope("samples", "x")),
        ("@samples/x@1.0.0", Scope("samples", "x", "1.0.0")),
    ],
)
def test_scopes_of_rules_are_read_and_written(text: str, found: Scope) -> None:
    assert scope(text) == found
    assert str(found) == text


@pytest.mark.parametrize("text", ["", "@samples@1.0.0", "@samples/", "**"])
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(BadName):
        scope(text)
