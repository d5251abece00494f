"""How much an instance may ask at a time."""

from __future__ import annotations

from collections import Counter

TOO_MANY = "Bad Request: too many requests at a time; wait for their answers"


class InFlight:
    """How many requests of each instance are under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count: Counter[str] = Counter()

    def enter(self, instance_id: str) -> bool:
        """Count one more; False: it has as many as it may."""
        if self._count[instance_id] >= self._most:
            return False
        self._count[instance_id] += 1
        return True

    def leave(self, instance_id: str) -> None:
        """One is done."""
        self._count[instance_id] -= 1
        if self._count[instance_id] <= 0:
            del self._count[instance_id]
