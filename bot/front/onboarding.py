"""Two questions, both skippable: what the assistant calls the person, and their time zone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.callbacks import Press
from bot.front.menu import NAME_QUESTION, ZONE_QUESTION
from bot.front.talk import Button, Buttons, Talk, escape
from bot.store.tables import Onboarding, User
from bot.users import people, zones

#: Actions of our buttons.
NAME: Final = "name"
ZONE: Final = "tz"
#: Arguments of theirs; a zone's name and a region (after `@`) are the others.
_FIRST = "first"
_TYPE = "type"
_SKIP = "skip"
_ASK = "ask"

_LONGEST_NAME = 64
_LONGEST_LABEL = 32


class Questions:
    """Asks, takes the answers, and has them brought to the instance; one message turns from question to summary."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def ask(self, session: AsyncSession, user: User) -> None:
        """The question that is open, as a new message; the summary where none is."""
        if user.onboarding == Onboarding.NEW:
            user.onboarding = Onboarding.NAME
        text, buttons = self._page(user)
        await self._talk.say(session, user.telegram_id, text, buttons)

    async def press(self, session: AsyncSession, user: User, press: Press, message_id: int) -> None:
        """A button of a question, in the message that holds it."""
        match press.action, press.argument:
            case (str(action), "type"):
                question = NAME_QUESTION if action == NAME else ZONE_QUESTION
                await self._talk.ask(session, user.telegram_id, question, "Name" if action == NAME else "City")
                return
            case (str(action), "ask"):
                page = _name_page(user) if action == NAME else _zone_page(user)
            case ("tz", str(argument)) if argument.startswith("@"):
                page = _region_page(argument.removeprefix("@"))
            case ("name", str(argument)):
                await self._set_name(session, user, user.first_name if argument == _FIRST else None)
                page = self._page(user)
            case (_, str(argument)):
                await self._set_zone(session, user, argument if zones.is_zone(argument) else None)
                page = self._page(user)
        await self._talk.edit(session, user.telegram_id, message_id, *page)

    async def reply(self, session: AsyncSession, user: User, question: str, text: str) -> None:
        """What the person typed to one of our questions."""
        if question == NAME_QUESTION:
            name = clean_name(text)
            if not name:
                await self._talk.ask(session, user.telegram_id, NAME_QUESTION, "Name")
                return
            await self._set_name(session, user, name)
        else:
            found = zones.find(text)
            if len(found) != 1:
                await self._talk.say(session, user.telegram_id, *_choice_page(found))
                return
            await self._set_zone(session, user, found[0])
        await self._talk.say(session, user.telegram_id, *self._page(user))

    async def _set_name(self, session: AsyncSession, user: User, name: str | None) -> None:
        """None: skipped, what was known stays."""
        if user.onboarding != Onboarding.DONE:
            user.onboarding = Onboarding.TIMEZONE
        if name and clean_name(name) != user.call_name:
            user.call_name = clean_name(name)
            await people.renew(session, user)

    async def _set_zone(self, session: AsyncSession, user: User, zone: str | None) -> None:
        user.onboarding = Onboarding.DONE
        if zone is not None and zone != user.timezone:
            user.timezone = zone
            await people.renew(session, user)

    def _page(self, user: User) -> tuple[str, Buttons]:
        match user.onboarding:
            case Onboarding.NEW | Onboarding.NAME:
                return _name_page(user)
            case Onboarding.TIMEZONE:
                return _zone_page(user)
            case _:
                return _summary(user)


def clean_name(text: str) -> str:
    """A name on one line of at most 64 characters; empty where nothing of it can be shown."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split())[:_LONGEST_NAME].strip()


def _name_page(user: User) -> tuple[str, Buttons]:
    first = clean_name(user.first_name)
    choice = [Button(first[:_LONGEST_LABEL], Press(NAME, _FIRST))] if first else []
    rest = [Button("Another name…", Press(NAME, _TYPE)), Button("Skip", Press(NAME, _SKIP))]
    return "<b>What should your assistant call you?</b>", [choice, rest] if choice else [rest]


def _zone_page(user: User) -> tuple[str, Buttons]:
    greeting = f"Nice to meet you, {escape(user.call_name)}. " if user.call_name else ""
    text = f"{greeting}<b>Which time zone are you in?</b>\nSo that reminders come when you mean them."
    return text, [*_cities(zones.guess(user.language)), *_regions()]


def _region_page(name: str) -> tuple[str, Buttons]:
    text = "<b>Which time zone are you in?</b>\nPick a city with your time, or type the name of yours."
    return text, [*_cities(zones.region(name)), *_regions()]


def _choice_page(found: Sequence[str]) -> tuple[str, Buttons]:
    if found:
        return "Which of these is it?", [*_cities(found), *_regions()]
    return "I do not know that place. A bigger city nearby may work, or a region:", _regions()


def _cities(found: Sequence[str]) -> list[list[Button]]:
    cities = [Button(f"{zones.city(zone)} · {zones.clock(zone)}", Press(ZONE, zone)) for zone in found]
    return [list(row) for row in _rows(cities, 2)]


def _regions() -> list[list[Button]]:
    regions = [Button(name, Press(ZONE, f"@{name}")) for name in zones.REGIONS]
    return [*_rows(regions, 3), [Button("Type it…", Press(ZONE, _TYPE)), Button("Skip", Press(ZONE, _SKIP))]]


def _summary(user: User) -> tuple[str, Buttons]:
    facts = []
    if user.call_name:
        facts.append(f"calls you <b>{escape(user.call_name)}</b>")
    if user.timezone:
        facts.append(
            f"goes by the time in <b>{escape(zones.city(user.timezone))}</b> ({zones.clock(user.timezone)} now)"
        )
    known = f"Your assistant {' and '.join(facts)}." if facts else "Your assistant knows no name or time zone of yours."
    change = [Button("Change name", Press(NAME, _ASK)), Button("Change time zone", Press(ZONE, _ASK))]
    return f"{known} Just write to it, as you would to a person.", [change]


def _rows(buttons: Sequence[Button], width: int) -> list[list[Button]]:
    return [list(buttons[start : start + width]) for start in range(0, len(buttons), width)]
