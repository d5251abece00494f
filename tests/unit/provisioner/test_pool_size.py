"""How many instances wait for people who are new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.provisioner.pool import wanted_size
from bot.provisioner.pool.size import REFILL

NOW = 1_800_000_000.0
HOUR = 3600.0
ARRIVALS = st.lists(st.floats(NOW - 24 * HOUR, NOW + HOUR), max_size=200)


def test_one_waits_where_nobody_came() -> None:
    assert wanted_size([], NOW, 10) == 1


def test_one_is_enough_where_few_come() -> None:
    assert wanted_size([NOW - HOUR, NOW - 2 * HOUR, NOW - 5 * HOUR], NOW, 10) == 1


def test_many_who_come_are_followed() -> None:
    one_a_minute = [NOW - 60.0 * number for number in range(60)]
    expected = REFILL / 60
    assert expected < wanted_size(one_a_minute, NOW, 50) <= 3 * expected


def test_a_rush_is_forgotten() -> None:
    rush = [NOW - float(number) for number in range(100)]
    assert wanted_size(rush, NOW, 50) > wanted_size(rush, NOW + 2 * HOUR, 50) > 1
    assert wanted_size(rush, NOW + 12 * HOUR, 50) == 1


def test_the_operator_may_want_none() -> None:
    assert wanted_size([NOW] * 100, NOW, 0) == 0


@given(ARRIVALS, st.integers(0, 50))
def test_never_more_than_the_operator_wants(arrivals: list[float], most: int) -> None:
    assert min(1, most) <= wanted_size(arrivals, NOW, most) <= most


@given(ARRIVALS, st.floats(NOW - 24 * HOUR, NOW))
def test_somebody_more_never_makes_it_smaller(arrivals: list[float], another: float) -> None:
    assert wanted_size([*arrivals, another], NOW, 50) >= wanted_size(arrivals, NOW, 50)


@given(ARRIVALS)
def test_a_clock_that_was_set_back_counts_nobody_more_than_now(arrivals: list[float]) -> None:
    assert wanted_size(arrivals, NOW, 50) <= wanted_size([NOW] * len(arrivals), NOW, 50)
