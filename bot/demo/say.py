"""One message from a new simulated person, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatedPerson
from bot.store import Database
from bot.store.tables import Instance, OutboxMessage, TimelineEntry, User
from bot.timeline import Stage

#: Seconds within which a reply must come: a cold start on a slow, busy machine takes a good part of it.
REPLY_WITHIN = 300.0
#: Seconds without a change after which a streamed reply counts as whole.
_SETTLED_AFTER = 1.5
_LOOK_EVERY = 0.1


class NoReply(Exception):
    """Nothing came back; the message says how far it got and why."""


class TurnedAway(Exception):
    """The person was not admitted; the message is what they were told."""


@dataclass(frozen=True)
class Step:
    """A stage of the way from the message to the reply."""

    stage: str
    #: Since the message was received.
    seconds: float
    detail: str


@dataclass(frozen=True)
class Answer:
    """A conversation of one message."""

    said: str
    reply: str
    telegram_id: int
    instance: str
    steps: tuple[Step, ...]

    def seconds(self, stage: Stage) -> float | None:
        """When the stage was first reached; None: never."""
        return next((step.seconds for step in self.steps if step.stage == stage), None)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "said": self.said,
            "reply": self.reply,
            "instance": self.instance,
            "telegram_id": self.telegram_id,
            "timeline": [{"stage": s.stage, "seconds": round(s.seconds, 3), "detail": s.detail} for s in self.steps],
        }


Watch = Callable[[tuple[Step, ...]], None]


async def say(
    people: SimulatorClient,
    database: Database,
    person: SimulatedPerson,
    text: str,
    watch: Watch,
    within: float = REPLY_WITHIN,
) -> Answer:
    """Send the text for the person and wait for their instance's reply, at most `within` seconds.

    `watch` sees the timeline as it grows. Raises :class:`NoReply` or :class:`TurnedAway`.
    """
    await people.say(person, text)
    steps: tuple[Step, ...] = ()
    try:
        async with asyncio.timeout(within):
            while not any(step.stage == Stage.REPLIED for step in steps):
                await asyncio.sleep(_LOOK_EVERY)
                found = await _timeline(database, person.id)
                if len(found) > len(steps):
                    steps = found
                    watch(steps)
                await _refuse_dead_ends(people, database, steps, person.id)
            reply = await _settled_reply(people, database, person.id)
    except TimeoutError:
        reached = steps[-1].stage if steps else "nothing: the update never arrived"
        raise NoReply(f"No reply within {within:.0f} seconds; the last stage was {reached}.") from None
    return Answer(text, reply, person.id, await _instance_of(database, person.id), await _timeline(database, person.id))


async def _timeline(database: Database, telegram_id: int) -> tuple[Step, ...]:
    query = select(TimelineEntry).where(TimelineEntry.telegram_id == telegram_id).order_by(TimelineEntry.id)
    async with database.read() as session:
        entries = list(await session.scalars(query))
    return tuple(Step(entry.stage, entry.at - entries[0].at, entry.detail) for entry in entries)


async def _refuse_dead_ends(
    people: SimulatorClient, database: Database, steps: tuple[Step, ...], telegram_id: int
) -> None:
    if any(step.stage == Stage.REFUSED for step in steps):
        told = [message.text for message in await people.messages(telegram_id) if message.from_bot]
        raise TurnedAway(f"The person was not admitted: {told[-1] if told else steps[-1].detail}")
    query = select(Instance.id, Instance.failure).join(User, User.id == Instance.user_id)
    async with database.read() as session:
        row = (await session.execute(query.where(User.telegram_id == telegram_id))).one_or_none()
    if row is not None and row[1] is not None:
        raise NoReply(f"{row[1]} Look at it with `zaki instance show {row[0]}`.")


async def _settled_reply(people: SimulatorClient, database: Database, telegram_id: int) -> str:
    """What the instance wrote, once it no longer changes."""
    loop = asyncio.get_running_loop()
    reply, since = "", loop.time()
    while not reply or loop.time() - since < _SETTLED_AFTER:
        await asyncio.sleep(_LOOK_EVERY)
        sent = (
            select(OutboxMessage.message_id)
            .where(OutboxMessage.chat_id == telegram_id, OutboxMessage.instance_id.is_not(None))
            .where(OutboxMessage.message_id.is_not(None))
        )
        async with database.read() as session:
            ours = set(await session.scalars(sent))
        texts = [message.text for message in await people.messages(telegram_id) if message.id in ours]
        if (now := "\n".join(filter(None, texts))) != reply:
            reply, since = now, loop.time()
    return reply


async def _instance_of(database: Database, telegram_id: int) -> str:
    query = select(Instance.id).join(User, User.id == Instance.user_id).where(User.telegram_id == telegram_id)
    async with database.read() as session:
        return (await session.scalars(query)).one()
