"""What one instance may have asked of the registry, whose limits all instances share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bot.front.skills.errors import TooMany

#: Requests that an instance may cause at once, and seconds after which it may cause one more. ClawHub's docs/api.md
#: grants an address 3000 a minute, and 300 of those that are no GET, as questions about verdicts are.
AT_ONCE = 120
_ONE_MORE_IN = 1.0
_MANY_INSTANCES = 1024

#: The instance for which something is done; None: nobody's, such as the operator's or the chat's, which count theirs.
_asking: ContextVar[str | None] = ContextVar("asking", default=None)


@contextmanager
def asking(instance_id: str | None) -> Iterator[None]:
    """Whatever is asked of the registry meanwhile, this instance pays for; None: it is paid."""
    before = _asking.set(instance_id)
    try:
        yield
    finally:
        _asking.reset(before)


class Allowances:
    """A bucket of tokens for each instance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: When each bucket is full again (the clock's seconds); those that are full are not kept for long.
        self._full_at: dict[str, float] = {}

    def take(self, requests: int) -> None:
        """Pay for requests; raises :class:`TooMany` where whoever asks has caused too many lately."""
        instance_id, now = _asking.get(), self._clock()
        if instance_id is None:
            return
        if len(self._full_at) >= _MANY_INSTANCES:
            self._full_at = {each: full_at for each, full_at in self._full_at.items() if full_at > now}
        full_at = max(now, self._full_at.get(instance_id, now)) + requests * _ONE_MORE_IN
        wait = full_at - now - AT_ONCE * _ONE_MORE_IN
        if wait > 0:
            raise TooMany("This assistant has asked ClawHub for very much lately", wait)
        self._full_at[instance_id] = full_at
