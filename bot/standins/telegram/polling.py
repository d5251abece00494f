"""`getUpdates`: https://core.telegram.org/bots/api#getupdates."""

import asyncio

from bot.standins.telegram.bell import Bell
from bot.standins.telegram.errors import conflict
from bot.standins.telegram.state import Json
from bot.standins.telegram.updates import PendingUpdates

_MAX_TIMEOUT = 50
_OTHER_POLL = "terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_ACTIVE = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
WEBHOOK_SET = "terminated by setWebhook request"


class Polling:
    """One long poll at a time; a second one ends the first."""

    def __init__(self, updates: PendingUpdates) -> None:
        self._updates = updates
        #: Whether a long poll waits for an update right now.
        self.waiting = False
        self._poll = 0
        self._reason = _OTHER_POLL
        self._closed = False
        # Rung by everything that may end a poll, so that a poll waits on a single bell.
        self._bell: Bell = updates.bell

    def close(self) -> None:
        """End the poll under way, and answer later ones at once."""
        self._closed = True
        self._bell.ring()

    def interrupt(self, reason: str) -> None:
        """End the poll under way with a conflict."""
        self._poll += 1
        self._reason = reason
        self._bell.ring()

    async def get(self, offset: int | None, limit: int | None, patience: int | None) -> list[Json]:
        """Updates from `offset` on (negative: that many from the end), at most `limit`, waiting up to
        `patience` seconds of real time for the first one.

        Raises ApiError 409 when another poll begins or a webhook is set meanwhile.
        """
        self.interrupt(_OTHER_POLL)
        mine = self._poll
        self._acknowledge(offset)
        loop_end = _now() + min(max(patience or 0, 0), _MAX_TIMEOUT)
        while True:
            ready = list(self._updates)[: min(max(limit or 100, 1), 100)]
            left = loop_end - _now()
            if ready or left <= 0 or self._closed:
                return [update.as_update() for update in ready]
            self.waiting = True
            await self._bell.wait(left)
            self.waiting = False
            if self._poll != mine:
                raise conflict(self._reason)

    def _acknowledge(self, offset: int | None) -> None:
        if not offset:
            return
        if offset > 0:
            self._updates.forget_before(offset)
            return
        waiting = list(self._updates)[offset:]
        if waiting:
            self._updates.forget_before(waiting[0].id)


def _now() -> float:
    return asyncio.get_running_loop().time()
