"""From a stranger's first message to the first reply of their own OpenClaw, beside the peer's.

Ours: a service that is up and has no instance for the person; from the update's arrival to the moment at which the
simulated Telegram has accepted the instance's first message. The peer: `openclaw fleet create`, then the first words of
the first turn over the cell's own chat API. The same image, machine and echo model, in turns, one instance at a time.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from bot.bench.figures import Figure, Report
from bot.bench.fleet import Fleet
from bot.demo.app import Demo, running_demo
from bot.demo.clean import clean
from bot.demo.say import Answer, say
from bot.nudge import Topic
from bot.standins.model.app import echo_app
from bot.standins.serving import running as serving
from bot.store.tables import Instance, User, Wanted
from bot.timeline import Stage
from bot.toolchain import Toolchain
from bot.users import people

BENCH = "first-message"
_TEXT = "Hello, who are you?"
_REMOVED_WITHIN = 120.0
_CUTS = {
    "admission": Stage.CREATING,
    "up": Stage.DECLARED,
    "gateway_ready": Stage.READY,
    "delivery": Stage.DELIVERED,
    "first_turn": Stage.REPLIED,
}


@dataclass(frozen=True)
class Pairs:
    """How a first reply of ours and one of the peer's are measured in turns."""

    bench: str
    #: Where the way of ours is cut into parts.
    cuts: dict[str, Stage]
    pool: int
    #: Returns when a side may be measured; told whether ours was measured last.
    prepare: Callable[[Demo, bool], Awaitable[None]]


async def measure(rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    """Measure both `rounds` times and report the medians; the ratio is the median of the rounds' own ratios."""

    async def start_cold(_demo: Demo, _after_ours: bool) -> None:
        """There is nothing to wait for."""

    creates = await beside_the_peer(Pairs(BENCH, _CUTS, 0, start_cold), rounds, report, tell)
    report(Figure(BENCH, "peer_create", statistics.median(creates), "s", rounds))


async def beside_the_peer(pairs: Pairs, rounds: int, report: Report, tell: Callable[[str], None]) -> list[float]:
    """Measure both sides `rounds` times and report `first_reply`; the seconds that each of its cells took to make."""
    folder = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    toolchain = Toolchain.from_pins()
    ours: list[Answer] = []
    peers: list[float] = []
    creates: list[float] = []
    state = folder / "state"
    try:
        # The peer's cells reach the model at this host's address on the demo's bridge.
        async with (
            running_demo(state, 0, tell, pool=pairs.pool) as demo,
            serving(echo_app(), str(demo.service.host.gateway)) as model,
        ):
            fleet = Fleet(toolchain, folder / "fleet", toolchain.image_tag, f"{model}/v1")
            for number in range(1, rounds + 1):
                await pairs.prepare(demo, False)
                tell(f"round {number} of {rounds}: ours")
                ours.append(await _from_a_stranger(demo))
                await pairs.prepare(demo, True)
                tell(f"round {number} of {rounds}: openclaw fleet")
                created, replied = await _from_the_peer(fleet, f"bench-{number}")
                creates.append(created)
                peers.append(replied)
    finally:
        await clean(state, tell)
        shutil.rmtree(folder, ignore_errors=True)
    replies = [_reached(answer, Stage.REPLIED) for answer in ours]
    report(
        Figure(
            pairs.bench,
            "first_reply",
            statistics.median(replies),
            "s",
            rounds,
            peer=statistics.median(peers),
            ratio=statistics.median(mine / theirs for mine, theirs in zip(replies, peers, strict=True)),
            parts=_medians([_parts(answer, pairs.cuts) for answer in ours]),
        )
    )
    return creates


async def _from_a_stranger(demo: Demo) -> Answer:
    """A conversation of one message with somebody new, whose instance is gone after it."""
    person = await demo.people.new_user()
    database = demo.service.database
    try:
        return await say(demo.people, database, person, _TEXT, lambda _steps: None)
    finally:
        async with database.write() as session:
            user = await people.find(session, person.id)
            if user is not None:
                await people.wish(session, user, Wanted.ABSENT)
        demo.service.nudge.ring(Topic.WISHES)
        if user is not None:
            async with asyncio.timeout(_REMOVED_WITHIN):
                await _until_gone(demo, user)


async def _until_gone(demo: Demo, user: User) -> None:
    query = select(Instance.id).where(Instance.user_id == user.id)
    while True:
        async with demo.service.database.read() as session:
            if await session.scalar(query) is None:
                return
        await asyncio.sleep(0.2)


async def _from_the_peer(fleet: Fleet, name: str) -> tuple[float, float]:
    """Seconds to the healthy cell, and to the first words of its first reply."""
    fleet.prepare(name)
    began = time.monotonic()
    try:
        cell = await fleet.create(name)
        created = time.monotonic() - began
        await fleet.first_turn(cell, _TEXT)
        return created, time.monotonic() - began
    finally:
        await fleet.remove(name)


def _parts(answer: Answer, cuts: dict[str, Stage]) -> dict[str, float]:
    """The way, cut where one part hands over to the next."""
    found, before = {}, 0.0
    for name, stage in cuts.items():
        at = _reached(answer, stage)
        found[name], before = at - before, at
    return found


def _reached(answer: Answer, stage: Stage) -> float:
    """Seconds from the message's arrival to the stage."""
    at = answer.seconds(stage)
    if at is None:
        raise RuntimeError(f"the timeline has no {stage}")
    return at


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Each part's median."""
    return {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}
