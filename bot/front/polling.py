"""The way in without a public address: long polling, the bytes of each update stored as they came."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import structlog

from bot.front import metrics
from bot.front.inbox import Inbox, InboxUnavailable
from bot.front.registration import free_for_polling
from bot.front.telegram import TelegramApi, TelegramUnavailable
from bot.front.updates import UPDATE_KINDS, Arrival, NotAnUpdate, read_update, split_updates

_log = structlog.get_logger(__name__)

#: Seconds that Telegram holds a poll open, and that we wait beyond it.
_HOLD = 50
_GRACE = 15.0
_MOST_UPDATES = 100
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class PollRefused(Exception):
    """Telegram answered a poll with an error; the message is Telegram's own."""

    def __init__(self, code: int, description: str, retry_after: float | None) -> None:
        super().__init__(description)
        self.code = code
        #: Seconds; None: not said.
        self.retry_after = retry_after


class Poller:
    """Asks for updates; the offset moves on only after the updates before it are committed."""

    def __init__(self, api: TelegramApi, inbox: Inbox, hold: int = _HOLD) -> None:
        """`hold`: seconds that Telegram keeps a poll open for something to come."""
        self._api = api
        self._inbox = inbox
        self._hold = hold

    async def run(self) -> None:
        """Until cancelled."""
        await free_for_polling(self._api)
        # Confirms what was stored. Only until that is done: an old one would hide ids that start anew at random.
        offset: int | None = None
        failures = 0
        while True:
            try:
                arrivals = await self.poll(offset)
                await self._inbox.store(arrivals)
            except TelegramUnavailable as error:
                failures += 1
                _log.warning("no updates from Telegram; it is asked again", reason=str(error), failures=failures)
            except PollRefused as refusal:
                failures += 1
                await self._explain(refusal)
                if refusal.retry_after is not None:
                    await asyncio.sleep(refusal.retry_after)
            except InboxUnavailable:
                failures += 1
            else:
                failures = 0
                offset = max(arrival.update_id for arrival in arrivals) + 1 if arrivals else None
            if failures:
                await asyncio.sleep(_pause(failures))

    async def poll(self, offset: int | None) -> list[Arrival]:
        """The next updates; raises :class:`TelegramUnavailable` and :class:`PollRefused`."""
        params = {
            "offset": offset,
            "timeout": self._hold,
            "limit": _MOST_UPDATES,
            "allowed_updates": list(UPDATE_KINDS),
        }
        answer = await self._api.raw("getUpdates", params, timeout=self._hold + _GRACE)
        if answer.status != 200:
            raise _refusal(answer.status, answer.body)
        arrivals = []
        try:
            bodies = split_updates(answer.body)
        except NotAnUpdate as error:
            raise TelegramUnavailable(f"{error} Check ZAKI_TELEGRAM_API.", in_doubt=False) from None
        for body in bodies:
            try:
                arrivals.append(read_update(body))
            except NotAnUpdate as error:
                metrics.UPDATES.labels("invalid").inc()
                _log.error("an update from Telegram cannot be read and is left out", reason=str(error))
        return arrivals

    async def _explain(self, refusal: PollRefused) -> None:
        if refusal.code == 409:
            _log.error("somebody else takes this bot's updates; stop the other service", reason=str(refusal))
            await free_for_polling(self._api)
        elif refusal.code in (401, 404):
            _log.error(
                "Telegram refuses the bot's token; set ZAKI_TELEGRAM_TOKEN to the one that @BotFather shows",
                reason=str(refusal),
            )
        else:
            _log.warning("Telegram refuses to give updates; it is asked again", reason=str(refusal))


def _refusal(status: int, body: bytes) -> Exception:
    try:
        said: Any = json.loads(body)
    except ValueError:
        said = None
    if status >= 500 or not isinstance(said, dict):
        return TelegramUnavailable(f"Telegram answered getUpdates with status {status}.", in_doubt=False)
    parameters = said.get("parameters")
    retry_after = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return PollRefused(
        status, str(said.get("description", "")), float(retry_after) if isinstance(retry_after, int) else None
    )


def _pause(failures: int) -> float:
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.75, 1.0)  # noqa: S311 - no secret depends on it
