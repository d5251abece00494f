"""Somebody who writes numbered messages, now and then many, now and then none for a while."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot.bench.faults.account import Chat, settle, text_of
from bot.standins.telegram.client import SimulatedMessage, SimulatedPerson, SimulatorClient, SimulatorError

#: How the bot says that nothing is stored (any more).
_NOTHING_LEFT = ("is deleted", "You have no assistant here yet")
#: Seconds between two looks at a chat.
_LOOK_EVERY = 1.0


@dataclass(frozen=True)
class Habits:
    """How somebody writes."""

    #: Mean seconds between two messages.
    pause: float
    #: Seconds of a silence that is long enough for the instance to fall asleep.
    silence: float
    #: Deletes everything now and then and begins anew.
    leaves: bool


@dataclass
class Person:
    """One simulated person; everything that they do is drawn from `draw`."""

    people: SimulatorClient
    who: SimulatedPerson
    habits: Habits
    draw: random.Random
    sent: list[int] = field(default_factory=list)
    #: Times that they left.
    departures: int = 0

    async def live(self, stop: asyncio.Event) -> None:
        """Write until it is time to stop."""
        while not stop.is_set():
            chance = self.draw.random()
            if chance < 0.1:
                for _ in range(self.draw.randint(2, 5)):
                    await self._write()
                    await asyncio.sleep(self.draw.uniform(0.0, 0.2))
            else:
                await self._write()
            if 0.1 <= chance < 0.2:
                await _pause(stop, self.habits.silence * self.draw.uniform(1.0, 2.0))
            elif self.habits.leaves and chance > 0.85:
                await self._leave(stop)
            else:
                await _pause(stop, self.draw.expovariate(1 / self.habits.pause))

    async def chat(self) -> Chat:
        """What they sent, and what the bot shows them."""
        return Chat(self.who.first_name, list(self.sent), [message.text for message in await self._shown()])

    async def has_all_replies(self) -> bool:
        """Whether each of their messages has a reply, or they know that there will be none."""
        return not settle([await self.chat()]).lost

    async def ask_again(self) -> None:
        """Write once more, as somebody does who waits for a reply."""
        await self._write()

    async def delete(self) -> None:
        """Ask for the deletion of everything and confirm it; returns when the bot says that it is done."""
        asked = await self.people.say(self.who, "/delete")
        while True:
            for message in await self._shown(after=asked.id):
                if any(words in message.text for words in _NOTHING_LEFT):
                    return
                await self._confirm(message)
            await asyncio.sleep(_LOOK_EVERY)

    async def _leave(self, stop: asyncio.Event) -> None:
        # What is deleted needs no reply, so nobody leaves while one is owed.
        while not await self.has_all_replies():
            if stop.is_set():
                return
            await asyncio.sleep(_LOOK_EVERY)
        await self.delete()
        self.departures += 1

    async def _write(self) -> None:
        number = len(self.sent)
        self.sent.append(number)
        await self.people.say(self.who, text_of(number))

    async def _confirm(self, message: SimulatedMessage) -> None:
        for row in message.buttons:
            for button in row:
                if "delete" in button.text.lower():
                    # It may just have gone with an answer to an earlier press.
                    with contextlib.suppress(SimulatorError):
                        await self.people.press(self.who, message, button.text)

    async def _shown(self, after: int = 0) -> Sequence[SimulatedMessage]:
        return [each for each in await self.people.messages(self.who) if each.from_bot and each.id > after]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
