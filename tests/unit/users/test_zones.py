"""Time zones: guessed, found, and all of them known to this machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.users import zones


@pytest.mark.parametrize(
    ("language", "first"),
    [
        ("de", "Europe/Berlin"),
        ("de-AT", "Europe/Berlin"),
        ("pt-BR", "America/Sao_Paulo"),
        ("pt_br", "America/Sao_Paulo"),
        ("pt", "Europe/Lisbon"),
        ("zh-hans", "Asia/Shanghai"),
        ("EN-us", "America/New_York"),
    ],
)
def test_a_language_suggests_where_somebody_is(language: str, first: str) -> None:
    assert zones.guess(language)[0] == first


@pytest.mark.parametrize("language", [None, "", "tlh", "x-klingon", "-"])
def test_an_unknown_language_suggests_nothing(language: str | None) -> None:
    assert zones.guess(language) == ()


def test_every_suggestion_is_a_zone() -> None:
    for name, listed in zones.REGIONS.items():
        assert zones.region(name) == listed
    for language, listed in zones._BY_LANGUAGE.items():
        assert zones.guess(language) == listed
    assert zones.region("Atlantis") == ()


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("berlin", "Europe/Berlin"),
        ("  BERLIN! ", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("america/new_york", "America/New_York"),
        ("Londn", "Europe/London"),
        ("Buenos Aires", "America/Buenos_Aires"),
        ("UTC", "Etc/UTC"),
        ("utc+2", "Etc/GMT-2"),
        ("GMT -5", "Etc/GMT+5"),
        ("gmt+02:00", "Etc/GMT-2"),
    ],
)
def test_a_typed_place_is_found(text: str, zone: str) -> None:
    assert zones.find(text) == (zone,)


def test_a_place_that_may_be_several_gives_a_choice() -> None:
    assert 1 < len(zones.find("america")) <= 4


@pytest.mark.parametrize("text", ["", "?", "🙂", "utc+99", "the moon", "../../etc/passwd"])
def test_a_place_that_is_none_gives_nothing(text: str) -> None:
    assert zones.find(text) == ()


@given(st.text())
def test_whatever_is_typed_finds_zones_or_nothing(text: str) -> None:
    assert all(zones.is_zone(zone) for zone in zones.find(text))


def test_a_clock_shows_the_time_there() -> None:
    noon = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
    assert zones.clock("Europe/Berlin", noon) == "13:00"
    assert zones.clock("America/New_York", noon) == "07:00"
    assert zones.city("America/New_York") == "New York"
