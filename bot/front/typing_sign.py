"""“typing…” in the chats of people who wait for their instance."""

from __future__ import annotations

import asyncio
import contextlib
import time

from bot.front.outbox import BotCall, Outbox

#: Seconds; Telegram shows it for 5.
_EVERY = 4.0


class TypingSign:
    """Shows the sign where there is room for it: messages go first."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        #: When each chat's sign is due (monotonic seconds).
        self._due: dict[int, float] = {}
        #: Chats whose last sign Telegram has not answered yet.
        self._under_way: set[int] = set()
        self._bell = asyncio.Event()

    def show(self, telegram_id: int) -> None:
        """From now on."""
        if telegram_id not in self._due:
            self._due[telegram_id] = 0.0
            self._bell.set()

    def hide(self, telegram_id: int) -> None:
        """No longer; what was shown ends by itself."""
        self._due.pop(telegram_id, None)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._bell.clear()
                for telegram_id in [chat for chat, due in self._due.items() if due <= time.monotonic()]:
                    self._due[telegram_id] = time.monotonic() + _EVERY
                    if telegram_id not in self._under_way:
                        # Beside each other: a slow answer to one must not hold up the sign of another.
                        self._under_way.add(telegram_id)
                        group.create_task(self._send(telegram_id))
                pause = max(0.1, min(self._due.values()) - time.monotonic()) if self._due else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._bell.wait()

    async def _send(self, telegram_id: int) -> None:
        params = {"chat_id": telegram_id, "action": "typing"}
        try:
            await self._outbox.pass_by(BotCall("sendChatAction", params, telegram_id))
        finally:
            self._under_way.discard(telegram_id)
