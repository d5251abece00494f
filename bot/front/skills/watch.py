"""The registry's verdicts, asked for again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from bot.front.skills.errors import SkillError, Unavailable
from bot.front.skills.mirror import Mirror
from bot.front.skills.renewing import look_for_newer
from bot.front.skills.turning import Change

_log = structlog.get_logger(__name__)

#: Seconds between two questions about everything that is served.
EVERY = 1800.0


async def watch(mirror: Mirror, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """For as long as the service runs; a version whose verdict turned bad is recalled within `EVERY` seconds.

    Where the registry is away or wants a pause, as soon as that is over.
    """
    await mirror.keeping.sweep()
    while True:
        # Not every Zaki of the world at the same moment.
        await sleep(EVERY * random.uniform(0.75, 1.0))  # noqa: S311
        for change in await _check(mirror, sleep):
            _log.warning(
                "a skill is no longer served",
                skill=str(change.reference),
                reason=change.says,
                instances=change.instances,
                recalled=change.recalled is not None,
            )
        await look_for_newer(mirror)


async def _check(mirror: Mirror, sleep: Callable[[float], Awaitable[None]]) -> list[Change]:
    """What changed, once the registry can be asked."""
    while True:
        try:
            return await mirror.check_again()
        except Unavailable as error:
            _log.warning("the verdicts of skills are asked for after a pause", reason=error.sentence)
            await sleep(error.retry_after)
        except SkillError as error:
            _log.warning("the verdicts of skills could not be asked for", reason=error.sentence)
            return []
