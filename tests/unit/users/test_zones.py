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


@pytest.mark.parametrize(
    ("zone", "hours", "words"),
    [
        ("Europe/Berlin", 0, "today at 13:00"),
        ("Europe/Berlin", 10.99, "today at 23:59"),
        ("Europe/Berlin", 11, "tomorrow at 00:00"),
        ("America/New_York", 11, "today at 18:00"),
        ("Europe/Berlin", -14, "yesterday at 23:00"),
        ("Europe/Berlin", 72, "on Sunday, 18 January at 13:00"),
        ("Europe/Berlin", 24 * 200, "on Monday, 3 August 2026 at 14:00"),
        (None, 0, "today at 12:00 UTC"),
        ("Atlantis/Capital", 0, "today at 12:00 UTC"),
        ("../../etc/passwd", 0, "today at 12:00 UTC"),
    ],
)
def test_a_moment_is_told_as_people_say_it(zone: str | None, hours: float, words: str) -> None:
    noon = datetime(2026, 1, 15, 12, 0, tzinfo=UTC).timestamp()
    assert zones.moment(zone, noon + hours * 3600, noon) == words


@pytest.mark.parametrize("at", [1e300, float("nan"), float("inf"), -1e15, 1e17])
def test_what_is_no_time_is_refused(at: float) -> None:
    with pytest.raises(ValueError, match=r".+"):
        zones.moment("Europe/Berlin", at, 0.0)
