"""A circuit breaker: after failures in a row nobody calls for a while, then one call tries."""

from __future__ import annotations

import time
from collections.abc import Callable


class BreakerOpen(Exception):
    """No call now; try again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"try again in {retry_after:.0f} seconds")
        self.retry_after = retry_after


class Attempt:
    """A call that was let through; the first verdict on it counts."""

    def __init__(self, breaker: CircuitBreaker, trial: bool) -> None:
        self._breaker = breaker
        self._trial = trial
        self._judged = False

    def succeeded(self) -> None:
        """The other side answered."""
        if self._judge():
            self._breaker._close()

    def failed(self) -> None:
        """The other side was down."""
        if self._judge():
            self._breaker._count(self._trial)

    def abandoned(self) -> None:
        """The call ended before one could tell."""
        self._judge()

    def _judge(self) -> bool:
        if self._judged:
            return False
        self._judged = True
        if self._trial:
            self._breaker._trial_under_way = False
        return True


class CircuitBreaker:
    """Closed, open, or half-open. Times are seconds; each trial that fails doubles the rest, up to the longest."""

    def __init__(
        self,
        failures: int = 3,
        first_rest: float = 5.0,
        longest_rest: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._first_rest = first_rest
        self._longest_rest = longest_rest
        self._clock = clock
        self._failures = 0
        self._rest = first_rest
        #: When a trial may begin; None: closed.
        self._rests_until: float | None = None
        self._trial_under_way = False

    @property
    def open(self) -> bool:
        """Whether a call would be refused now."""
        if self._rests_until is None:
            return False
        return self._trial_under_way or self._clock() < self._rests_until

    def attempt(self) -> Attempt:
        """Let a call through; raises :class:`BreakerOpen`."""
        if self.open:
            remaining = (self._rests_until or 0.0) - self._clock()
            raise BreakerOpen(max(remaining, 1.0))
        trial = self._rests_until is not None
        self._trial_under_way = trial
        return Attempt(self, trial)

    def _close(self) -> None:
        self._failures = 0
        self._rest = self._first_rest
        self._rests_until = None

    def _count(self, trial: bool) -> None:
        self._failures += 1
        if trial:
            self._rest = min(self._rest * 2, self._longest_rest)
        elif self._rests_until is not None or self._failures < self._limit:
            # Calls that began before the breaker opened say nothing new.
            return
        self._rests_until = self._clock() + self._rest
