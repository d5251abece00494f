"""The circuit breaker, against a clock that the test moves."""

from __future__ import annotations

import pytest

from bot.front.models.breaker import BreakerOpen, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, first_rest=5.0, longest_rest=12.0, clock=clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.attempt().failed()


def test_opens_after_failures_in_a_row(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.attempt().succeeded()
    fail(breaker, 2)
    assert not breaker.open
    fail(breaker)
    assert breaker.open
    with pytest.raises(BreakerOpen) as refusal:
        breaker.attempt()
    assert refusal.value.retry_after == 5.0


def test_lets_one_call_try_after_the_rest(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.time = 4.9
    assert breaker.open
    clock.time = 5.0
    assert not breaker.open
    trial = breaker.attempt()
    assert breaker.open
    with pytest.raises(BreakerOpen):
        breaker.attempt()
    trial.succeeded()
    assert not breaker.open
    breaker.attempt()
    breaker.attempt()


def test_rests_longer_after_each_failed_trial(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    for rest in (5.0, 10.0, 12.0, 12.0):
        clock.time += rest - 0.1
        assert breaker.open
        clock.time += 0.1
        fail(breaker)
    clock.time += 12.0
    breaker.attempt().succeeded()
    fail(breaker, 3)
    clock.time += 5.0
    assert not breaker.open


def test_an_abandoned_trial_makes_room_for_another(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.time = 5.0
    breaker.attempt().abandoned()
    breaker.attempt().succeeded()
    assert not breaker.open


def test_late_failures_do_not_lengthen_the_rest(breaker: CircuitBreaker, clock: Clock) -> None:
    attempts = [breaker.attempt() for _ in range(6)]
    for attempt in attempts[:3]:
        attempt.failed()
    clock.time = 4.0
    for attempt in attempts[3:]:
        attempt.failed()
    clock.time = 5.0
    assert not breaker.open


def test_a_late_verdict_on_another_call_leaves_the_trial_alone(breaker: CircuitBreaker, clock: Clock) -> None:
    early = breaker.attempt()
    fail(breaker, 3)
    clock.time = 5.0
    breaker.attempt()
    early.abandoned()
    assert breaker.open


def test_the_first_verdict_counts(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        attempt = breaker.attempt()
        attempt.succeeded()
        attempt.failed()
        attempt.abandoned()
    assert not breaker.open
