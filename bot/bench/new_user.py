"""From a stranger's first message to the first reply where an instance of the warm pool waits, beside the peer's.

As :mod:`bot.bench.first_message`, but for the pool: one member, asleep for longer than OpenClaw keeps its workers. Each
side is measured while the pool is full, so nothing is made in the background meanwhile.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from bot.bench.figures import Figure, Report
from bot.bench.first_message import from_a_stranger, from_the_peer, medians, parts, reached
from bot.bench.fleet import Fleet
from bot.demo.app import Demo, running_demo
from bot.demo.clean import clean
from bot.demo.say import Answer
from bot.standins.model.app import echo_app
from bot.standins.serving import running as serving
from bot.store import now
from bot.store.tables import ContainerState, Instance
from bot.timeline import Stage
from bot.toolchain import Toolchain

BENCH = "new-user"
#: Seconds that a member has slept when somebody comes: OpenClaw rests after 60, and mends itself after a gap of 75.
_ASLEEP_FOR = 90.0
_FULL_WITHIN = 600.0
_LOOK_EVERY = 1.0
_CUTS = {
    "claim": Stage.CLAIMED,
    "thaw": Stage.STARTED,
    "gateway_ready": Stage.READY,
    "delivery": Stage.DELIVERED,
    "first_turn": Stage.REPLIED,
}


async def measure(rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    """Measure both `rounds` times and report the medians; the ratio is the median of the rounds' own ratios."""
    folder = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    toolchain = Toolchain.from_pins()
    ours: list[Answer] = []
    peers: list[float] = []
    state = folder / "state"
    try:
        # The peer's cells reach the model at this host's address on the demo's bridge.
        async with (
            running_demo(state, 0, tell, pool=1) as demo,
            serving(echo_app(), str(demo.service.host.gateway)) as model,
        ):
            fleet = Fleet(toolchain, folder / "fleet", toolchain.image_tag, f"{model}/v1")
            for number in range(1, rounds + 1):
                tell(f"round {number} of {rounds}: waiting for the pool")
                await _until_full(demo, _ASLEEP_FOR)
                tell(f"round {number} of {rounds}: ours")
                ours.append(await from_a_stranger(demo))
                await _until_full(demo, 0.0)
                tell(f"round {number} of {rounds}: openclaw fleet")
                peers.append((await from_the_peer(fleet, f"bench-{number}"))[1])
    finally:
        await clean(state, tell)
        shutil.rmtree(folder, ignore_errors=True)
    replies = [reached(answer, Stage.REPLIED) for answer in ours]
    report(
        Figure(
            BENCH,
            "first_reply",
            statistics.median(replies),
            "s",
            rounds,
            peer=statistics.median(peers),
            ratio=statistics.median(mine / theirs for mine, theirs in zip(replies, peers, strict=True)),
            parts=medians([parts(answer, _CUTS) for answer in ours]),
        )
    )


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
