"""What one instance may have asked of the registry."""

from __future__ import annotations

import pytest

from bot.front.skills.allowances import AT_ONCE, Allowances, asking
from bot.front.skills.errors import TooMany


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_instance_that_used_up_its_own_waits_and_takes_nothing_from_another() -> None:
    clock = Clock()
    allowances = Allowances(clock)
    with asking("u-aaaaaaaaaa"):
        allowances.take(AT_ONCE)
        with pytest.raises(TooMany) as told:
            allowances.take(3)
        assert (told.value.status, told.value.headers) == (429, {"Retry-After": "3"})
        # What was refused cost nothing.
        clock.now += 3.0
        allowances.take(3)
    with asking("u-bbbbbbbbbb"):
        allowances.take(AT_ONCE)


def test_what_no_instance_asks_for_is_not_counted() -> None:
    allowances = Allowances(Clock())
    for _ in range(AT_ONCE + 1):
        allowances.take(1)
    with asking("u-aaaaaaaaaa"):
        allowances.take(AT_ONCE)
        with asking(None):
            allowances.take(AT_ONCE)
