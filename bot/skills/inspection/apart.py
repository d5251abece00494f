"""The inspection from the event loop's side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from bot.skills.inspection.findings import Inspected
from bot.skills.reasons import Check, Reason

_log = structlog.get_logger(__name__)

#: Seconds that one archive may take.
_WITHIN = 60.0
_TOO_MUCH = "Its archive cannot be looked into with the memory and time that a skill may take."


async def inspect_apart(
    archive: Path, packed: Path, listed: Mapping[str, str], before: Mapping[str, str] | None
) -> Inspected:
    """See :func:`bot.skills.inspection.findings.inspect`; one that takes too much, or crashes, is refused.

    Apart, because what breaks a reader written in C, or keeps it busy, is then a refusal and no outage of the front.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "bot.skills.inspection",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    asked = {"archive": str(archive), "packed": str(packed), "listed": dict(listed), "before": before}
    try:
        async with asyncio.timeout(_WITHIN):
            said, errors = await process.communicate(json.dumps(asked).encode())
    except TimeoutError:
        return Inspected([Reason(Check.ARCHIVE, _TOO_MUCH, passing=True)])
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return Inspected.from_json(json.loads(said))
    except (ValueError, TypeError, KeyError):
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        _log.warning("a skill's archive broke its inspection", code=process.returncode, error=last)
        return Inspected([Reason(Check.ARCHIVE, _TOO_MUCH, passing=True)])
