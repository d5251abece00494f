"""Which needs people write about who let us look; what they write is not kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from bot.front.inbox import DATABASE_ERRORS
from bot.front.skillchat.sets import Sets
from bot.skills.sets import SkillSet
from bot.store import Database, now
from bot.store.tables import SkillInterest, SkillPerson

#: Messages that wait to be looked at; more are not looked at.
_MOST = 500
#: Seconds until the list of people is read anew; and for which a need that was noted is not noted again.
_LOOK_AGAIN = 60.0
_AGAIN = 3600.0
_WORD = re.compile(r"[^\W\d_]{4,}")


class Interests:
    """Looks at messages that were delivered, beside their way; whoever never said so is told apart by one look-up."""

    def __init__(self, database: Database, sets: Sets) -> None:
        self._database = database
        self._sets = sets
        self._who: frozenset[int] = frozenset()
        self._queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_MOST)
        self._stale = asyncio.Event()

    def delivered(self, telegram_id: int, body: bytes) -> None:
        """An update went to somebody's instance."""
        if telegram_id in self._who and not self._queue.full():
            self._queue.put_nowait((telegram_id, body))

    def ask_again(self) -> None:
        """Somebody changed their mind."""
        self._stale.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_people())
            group.create_task(self._look_at_messages())

    async def _read_people(self) -> None:
        while True:
            self._stale.clear()
            # A database that is away is told elsewhere; what is missed of a few messages is no loss.
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._database.read() as session:
                    query = select(SkillPerson.telegram_id).where(SkillPerson.from_messages.is_(True))
                    self._who = frozenset(await session.scalars(query))
            try:
                async with asyncio.timeout(_LOOK_AGAIN):
                    await self._stale.wait()
            except TimeoutError:
                continue

    async def _look_at_messages(self) -> None:
        while True:
            telegram_id, body = await self._queue.get()
            found = about(_text(body), self._sets.now().needs)
            if found:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await self._note(telegram_id, found)

    async def _note(self, telegram_id: int, needs: Iterable[str]) -> None:
        async with self._database.write() as session:
            person = await session.get(SkillPerson, telegram_id, with_for_update=True)
            if person is None or not person.from_messages:
                return
            for need in needs:
                row = await session.get(SkillInterest, (telegram_id, need))
                if row is None:
                    session.add(SkillInterest(telegram_id=telegram_id, need=need, last_at=now()))
                elif abs(now() - row.last_at) > _AGAIN:
                    row.last_at = now()


def about(text: str, needs: Iterable[SkillSet]) -> list[str]:
    """The keys of the needs that a text is about: it has a word of their titles, or names a skill."""
    words = set(_WORD.findall(text.lower()))
    found = []
    for need in needs:
        skills = " ".join(skill.name.slug for skill in need.skills)
        if words & set(_WORD.findall(f"{need.key} {need.title} {skills}".lower())):
            found.append(need.key)
    return found


def _text(body: bytes) -> str:
    update: dict[str, Any] = json.loads(body)
    message = update.get("message")
    if not isinstance(message, dict):
        return ""
    return " ".join(str(message[kind]) for kind in ("text", "caption") if isinstance(message.get(kind), str))
