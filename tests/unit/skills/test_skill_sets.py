"""The operator's file of recommended skills."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.skills.names import SkillName
from bot.skills.sets import Recommended, SetsError, load
from bot.store.tables import SkillPolicy

FILE = """
[plans]
standard = ["@samples/tide-tables", { skill = "@samples/unit-converter", policy = "latest" }]

[needs.weather]
title = "Weather"
says = "Says what the weather will be."
skills = ["@Samples/city-weather@1.0.0"]
"""


def test_sets_are_by_need_and_by_plan(tmp_path: Path) -> None:
    sets = load(written(tmp_path, FILE))
    assert sets.of_plan("standard") == (
        Recommended(SkillName("samples", "tide-tables")),
        Recommended(SkillName("samples", "unit-converter"), None, SkillPolicy.LATEST),
    )
    assert sets.of_plan("another") == ()
    weather = sets.need("weather")
    assert weather is not None
    assert weather.skills == (Recommended(SkillName("samples", "city-weather"), "1.0.0", SkillPolicy.PIN),)
    assert sets.need("sports") is None


def test_the_one_that_comes_with_zaki_can_be_used() -> None:
    sets = load(None)
    assert sets.needs
    # What nobody chose is installed for nobody.
    assert sets.of_plan("standard") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[plans", "no TOML"),
        ('[plans]\nstandard = ["weather"]', "write it like @owner/name"),
        ('[plans]\nstandard = [{ skill = "@samples/tides", policy = "sometimes" }]', "plans.standard.0.policy"),
        ('[needs.weather]\ntitle = "Weather"\nskills = ["@samples/tides"]', "needs.weather.says"),
        ('[needs."Wrong Key"]\ntitle = "a"\nsays = "b"\nskills = ["@samples/tides"]', "Wrong Key"),
        ("[sets]", "sets"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SetsError, match=says):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetsError, match=r"nowhere\.toml cannot be read"):
        load(tmp_path / "nowhere.toml")


def written(folder: Path, text: str) -> Path:
    path = folder / "sets.toml"
    path.write_text(text)
    return path
