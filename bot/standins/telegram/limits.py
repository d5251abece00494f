"""Telegram's own limits on sends, applied when `SimulatorConfig.enforce_limits` is set."""

import math
from collections import deque
from dataclasses import dataclass, field

from bot.standins.telegram.clock import Clock
from bot.standins.telegram.errors import too_many_requests


@dataclass(frozen=True)
class Limit:
    calls: int
    seconds: float


OVERALL = Limit(30, 1)
#: One a second; a short burst is let through, as Telegram does.
PRIVATE_CHAT = Limit(5, 5)
GROUP = Limit(20, 60)


@dataclass
class FloodLimits:
    """Counts sends in sliding windows."""

    clock: Clock
    _sends: dict[int | None, deque[float]] = field(default_factory=dict)

    def count(self, chat_id: int) -> None:
        """Count a send to this chat.

        Raises ApiError 429 with the seconds to wait if it is one too many; such a send is not counted.
        """
        now = self.clock.time()
        windows = ((None, OVERALL), (chat_id, PRIVATE_CHAT if chat_id > 0 else GROUP))
        for key, limit in windows:
            sends = self._sends.setdefault(key, deque())
            while sends and sends[0] <= now - limit.seconds:
                sends.popleft()
            if len(sends) >= limit.calls:
                raise too_many_requests(max(1, math.ceil(sends[0] + limit.seconds - now)))
        for key, _ in windows:
            self._sends[key].append(now)
