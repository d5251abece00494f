"""From a stranger's first message to the first reply where an instance of the warm pool waits, beside the peer's.

As :mod:`bot.bench.first_message`, but for the pool: one member, asleep for longer than OpenClaw keeps its workers. Each
side is measured while the pool is full, so nothing is made in the background meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import select

from bot.bench.figures import Report
from bot.bench.first_message import Pairs, beside_the_peer
from bot.demo.app import Demo
from bot.store import now
from bot.store.tables import ContainerState, Instance
from bot.timeline import Stage

BENCH = "new-user"
#: Seconds that a member has slept when somebody comes: OpenClaw rests after 60, and mends itself after a gap of 75.
_ASLEEP_FOR = 90.0
_FULL_WITHIN = 600.0
_LOOK_EVERY = 1.0
_CUTS = {
    "claim": Stage.CLAIMED,
    "thaw": Stage.WOKEN,
    "gateway_ready": Stage.READY,
    "delivery": Stage.DELIVERED,
    "first_turn": Stage.REPLIED,
}


async def measure(rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    """Measure both `rounds` times and report the medians; the ratio is the median of the rounds' own ratios."""

    async def fill(demo: Demo, after_ours: bool) -> None:
        tell("waiting for the pool")
        await _until_full(demo, 0.0 if after_ours else _ASLEEP_FOR)

    await beside_the_peer(Pairs(BENCH, _CUTS, 1, fill), rounds, report, tell)


async def _until_full(demo: Demo, asleep_for: float) -> None:
    """Return once the pool's member has slept for so many seconds."""
    query = select(Instance.id).where(
        Instance.user_id.is_(None), Instance.warmed_at.is_not(None), Instance.container == ContainerState.PAUSED
    )
    async with asyncio.timeout(_FULL_WITHIN):
        while True:
            async with demo.service.database.read() as session:
                if await session.scalar(query.where(Instance.resting_since <= now() - asleep_for)) is not None:
                    return
            await asyncio.sleep(_LOOK_EVERY)
