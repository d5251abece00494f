"""Who the bot is: Telegram's own `getMe`, kept so that an instance can start while Telegram is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from bot.front.outbox import BotCall, Outbox

_log = structlog.get_logger(__name__)

#: Seconds for which what Telegram said holds, and for which it is not asked again where it said nothing.
_FRESH = 3600.0
_PAUSE = 30.0
#: Seconds that a question waits for Telegram.
_PATIENCE = 12.0


class BotIdentity:
    """The bot's `User`, asked of Telegram once an hour, in `STATE/cache` across restarts.

    Nobody waits for Telegram where anything is known: it is asked in the background, and once for all who want to know.
    """

    def __init__(self, outbox: Outbox, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._outbox = outbox
        self._file = state / "cache" / "bot.json"
        self._clock = clock
        self._known: dict[str, Any] | None = None
        self._looked = False
        self._ask_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def get(self) -> dict[str, Any] | None:
        """The bot's `User`; None where Telegram never said."""
        if not self._looked:
            found = await asyncio.to_thread(self._read)
            if not self._looked:
                self._known, self._looked = found, True
        if self._asking is None and self._clock() >= self._ask_at:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        if self._known is None and self._asking is not None:
            await asyncio.wait([self._asking])
        return self._known

    async def _ask(self) -> None:
        answer = await self._outbox.ask(BotCall("getMe", {}, 0), _PATIENCE)
        if answer is None or not answer.get("ok") or not isinstance(answer.get("result"), dict):
            self._ask_at = self._clock() + _PAUSE
            return
        self._ask_at = self._clock() + _FRESH
        if answer["result"] != self._known:
            self._known = answer["result"]
            await asyncio.to_thread(self._write)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ask_at = self._clock() + _PAUSE
            _log.error("the bot's name could not be asked for", error=type(error).__name__)

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self) -> None:
        # Only a cache: where it cannot be written, Telegram is asked again.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(self._known))
            draft.replace(self._file)
