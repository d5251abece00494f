"""Answers of the registry's that hold for a short while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Recent(Generic[Answer]):
    """The last `most` answers, each for `seconds`."""

    def __init__(self, seconds: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        #: With the time from which it holds no more, the oldest first.
        self._answers: OrderedDict[Hashable, tuple[float, Answer]] = OrderedDict()

    def get(self, key: Hashable) -> Answer | None:
        """What was answered; None: nothing that holds still."""
        until, answer = self._answers.get(key, (0.0, None))
        return answer if until > self._clock() else None

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer."""
        self._answers.pop(key, None)
        self._answers[key] = self._clock() + self._seconds, answer
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def clear(self) -> None:
        """Nothing holds any more."""
        self._answers.clear()
