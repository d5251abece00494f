"""From a message to the first reply of an instance that is awake, asleep and stopped, side by side.

One person's OpenClaw on one machine, in turns; before each message nobody has written for a while, as is usual between
people and their assistants: OpenClaw itself rests its workers after a minute.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select, update

from bot.bench.figures import Figure, Report
from bot.demo.app import Demo, running_demo
from bot.demo.clean import clean
from bot.demo.say import say
from bot.provisioner.decision import Action, Request
from bot.provisioner.lease import LeaseHeld
from bot.provisioner.work import Refused
from bot.standins.telegram.client import SimulatedMessage, SimulatedPerson
from bot.store import now
from bot.store.tables import Instance, User
from bot.users.plans import PLANS

BENCH = "wake"
#: Seconds of silence before each message.
SILENCE = 90.0
_REPLY_WITHIN = 180.0
_REST_WITHIN = 120.0
_TRY_EVERY = 1.0


@dataclass
class _Times:
    """Seconds from a message to the sign of typing, and to the reply."""

    typing: list[float] = field(default_factory=list)
    reply: list[float] = field(default_factory=list)


async def measure(rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    """Measure each of the three `rounds` times and report medians, the ratio and the difference."""
    folder = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    state = folder / "state"
    times = {name: _Times() for name in ("awake", "asleep", "stopped")}
    try:
        async with running_demo(state, 0, tell, pool=0) as demo:
            person = await demo.people.new_user()
            await say(demo.people, demo.service.database, person, "Hello!", lambda _steps: None)
            instance_id = await instance_of(demo, person)
            for number in range(1, rounds + 1):
                for name, found in times.items():
                    tell(f"round {number} of {rounds}: {name}")
                    await _rest(demo, instance_id, name)
                    await asyncio.sleep(SILENCE)
                    await _measure(demo, person, f"{name} {number}", found)
    finally:
        await clean(state, tell)
        shutil.rmtree(folder, ignore_errors=True)
    reply = {name: statistics.median(found.reply) for name, found in times.items()}
    for name, found in times.items():
        parts = {"typing": statistics.median(found.typing)}
        report(Figure(BENCH, f"{name}_reply", reply[name], "s", rounds, parts=parts))
    pairs = zip(times["asleep"].reply, times["stopped"].reply, times["awake"].reply, strict=True)
    ratios, differences = zip(*((asleep / stopped, asleep - awake) for asleep, stopped, awake in pairs), strict=True)
    ratio = statistics.median(ratios)
    report(Figure(BENCH, "asleep_over_stopped", ratio, "", rounds, peer=reply["stopped"], ratio=ratio))
    report(Figure(BENCH, "asleep_minus_awake_s", statistics.median(differences), "s", rounds))
    report(Figure(BENCH, "typing_s", max(times["asleep"].typing + times["stopped"].typing), "s", 2 * rounds))


async def _measure(demo: Demo, person: SimulatedPerson, text: str, times: _Times) -> None:
    began = time.time()
    said = await demo.people.say(person, text)

    def answers(message: SimulatedMessage) -> bool:
        return text in message.text

    await demo.people.wait_for_reply(person, after=said.id, timeout=_REPLY_WITHIN, predicate=answers)
    times.reply.append(time.time() - began)
    signs = [
        call.at
        for call in await demo.people.calls("sendChatAction")
        if call.params.get("chat_id") == person.id and call.at >= began
    ]
    times.typing.append(min(signs) - began)


async def _rest(demo: Demo, instance_id: str, name: str) -> None:
    """Bring it to where it is measured from."""
    provisioner = demo.service.provisioner
    assert provisioner is not None  # noqa: S101 - a demo runs both parts
    if name == "awake":
        return
    await put_to_sleep(demo, instance_id)
    if name == "stopped":
        # As after days asleep, of which its person was told.
        long_ago = now() - PLANS["standard"].stop_after
        async with demo.service.database.write() as session:
            await session.execute(
                update(Instance).where(Instance.id == instance_id).values(resting_since=long_ago, rest_told_at=long_ago)
            )
        await provisioner.reconcile(instance_id)


async def put_to_sleep(demo: Demo, instance_id: str) -> None:
    """Put the instance to sleep as soon as its last turn is over."""
    provisioner = demo.service.provisioner
    assert provisioner is not None  # noqa: S101 - a demo runs both parts
    async with asyncio.timeout(_REST_WITHIN):
        while True:
            try:
                await provisioner.reconcile(instance_id, Request(Action.SLEEP, "It is measured."))
                return
            except (Refused, LeaseHeld):
                await asyncio.sleep(_TRY_EVERY)


async def instance_of(demo: Demo, person: SimulatedPerson) -> str:
    """Id of the person's instance."""
    query = select(Instance.id).join(User, User.id == Instance.user_id).where(User.telegram_id == person.id)
    async with demo.service.database.read() as session:
        return str(await session.scalar(query))
