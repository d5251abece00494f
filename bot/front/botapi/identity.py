"""Who the bot is: Telegram's own `getMe`, kept so that an instance can start while Telegram is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from bot.front.outbox import BotCall, Outbox

_FRESH = 3600.0


class BotIdentity:
    """The bot's `User`, asked of Telegram once an hour, in `STATE/cache` across restarts."""

    def __init__(self, outbox: Outbox, state: Path) -> None:
        self._outbox = outbox
        self._file = state / "cache" / "bot.json"
        self._known: dict[str, Any] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def get(self) -> dict[str, Any] | None:
        """The bot's `User`; None where Telegram never said."""
        if time.monotonic() - self._asked_at < _FRESH:
            return self._known
        async with self._asking:
            if time.monotonic() - self._asked_at < _FRESH:
                return self._known
            if self._known is None:
                self._known = await asyncio.to_thread(self._read)
            answer = await self._outbox.ask(BotCall("getMe", {}, 0), wait=2.0 if self._known else 12.0)
            if answer is not None and answer.get("ok") and isinstance(answer.get("result"), dict):
                self._asked_at = time.monotonic()
                if answer["result"] != self._known:
                    self._known = answer["result"]
                    await asyncio.to_thread(self._write)
        return self._known

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
