"""The registry's verdicts, asked for again and again."""

from __future__ import annotations

import asyncio
import random

import structlog

from bot.front.skills.errors import SkillError
from bot.front.skills.mirror import Mirror
from bot.front.skills.renewing import look_for_newer

_log = structlog.get_logger(__name__)

#: Seconds between two questions about everything that is served.
EVERY = 1800.0


async def watch(mirror: Mirror) -> None:
    """For as long as the service runs; a version whose verdict turned bad is recalled within `EVERY` seconds."""
    await mirror.keeping.sweep()
    while True:
        # Not every Zaki of the world at the same moment.
        await asyncio.sleep(EVERY * random.uniform(0.75, 1.0))  # noqa: S311
        try:
            changes = await mirror.check_again()
        except SkillError as error:
            _log.warning("the verdicts of skills could not be asked for", reason=error.sentence)
            continue
        for change in changes:
            _log.warning(
                "a skill is no longer served",
                skill=str(change.reference),
                reason=change.says,
                instances=change.instances,
                recalled=change.recalled is not None,
            )
        await look_for_newer(mirror)
