"""When a person is told that their disk fills up: once at each step, and again only after it was well below."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.provisioner.disks import FULL, DiskUse
from bot.provisioner.fullness import CALM, WARN, told_of


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([10, 79], [None, None]),
        ([80, 85, 79, 70, 81], [80, 80, 80, 80, 80]),
        ([80, 69, 80], [80, None, 80]),
        ([99], [100]),
        ([85, 100, 85, 100, 75, 69, 99], [80, 100, 100, 100, 100, None, 100]),
    ],
)
def test_what_is_told_as_a_disk_fills_and_empties(seen: list[int], told: list[int | None]) -> None:
    now: int | None = None
    found = []
    for percent in seen:
        now = told_of(percent, now)
        found.append(now)
    assert found == told


@given(st.lists(st.integers(0, 100), max_size=50))
def test_nobody_is_told_twice_without_room_in_between(seen: list[int]) -> None:
    told: int | None = None
    loudest = 0
    for percent in seen:
        before, told = told, told_of(percent, told)
        if percent < CALM:
            loudest = 0
        if (told or 0) > (before or 0):
            assert percent >= WARN
            assert (told or 0) > loudest
            loudest = told or 0
        assert (percent < FULL) or told == 100


@pytest.mark.parametrize(
    ("use", "percent", "short_of"),
    [
        (DiskUse(1000, 850, 100, 10), 85, "space"),
        (DiskUse(1000, 10, 100, 90), 90, "files"),
        (DiskUse(0, 0, 0, 0), 0, "space"),
        (DiskUse(1000, 1000, 100, 100), 100, "space"),
    ],
)
def test_the_fuller_of_space_and_files_counts(use: DiskUse, percent: int, short_of: str) -> None:
    assert (use.percent, use.short_of) == (percent, short_of)
