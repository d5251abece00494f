"""Memory for requests that are being read: a share for each instance, and an end for all together."""

from __future__ import annotations

from collections import Counter

from bot.front.models.errors import too_much_at_once, unavailable

#: Bytes of an instance's requests: three of the largest.
_SHARE = 24_000_000
#: Bytes of everybody's requests.
_ALL = 256_000_000


class Room:
    """Counts the bytes of requests from their arrival until the provider has them."""

    def __init__(self, share: int = _SHARE, everybody: int = _ALL) -> None:
        self._share = share
        self._all = everybody
        self._used: Counter[str] = Counter()

    def hold(self, instance_id: str) -> Held:
        """Room for one request of the instance; release it in any case."""
        return Held(self, instance_id)

    def reserve(self, instance_id: str, size: int) -> None:
        """Count bytes in; raises :class:`ModelError` where there is no room for them."""
        if self._used[instance_id] + size > self._share:
            raise too_much_at_once(self._share)
        if self._used.total() + size > self._all:
            raise unavailable("Zaki reads too many requests at once; try again soon.", 2.0)
        self._used[instance_id] += size

    def release(self, instance_id: str, size: int) -> None:
        """Count bytes out."""
        self._used[instance_id] -= size
        if self._used[instance_id] <= 0:
            del self._used[instance_id]


class Held:
    """The room that one request takes."""

    def __init__(self, room: Room, instance_id: str) -> None:
        self._room = room
        self._instance_id = instance_id
        self._size = 0

    def reserve(self, size: int) -> None:
        """So many bytes more have come; raises :class:`ModelError` where there is no room for them."""
        self._room.reserve(self._instance_id, size)
        self._size += size

    def release(self) -> None:
        """The request is gone; a second time does nothing."""
        if self._size:
            self._room.release(self._instance_id, self._size)
            self._size = 0
