"""/skills as a person meets it: a real front, the simulator with its people, the stand-in registry, the mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bot.credentials import new_instance_id
from bot.front.app import Front
from bot.front.context import FrontContext
from bot.front.outbox.effects import note_reply
from bot.nudge import Topic
from bot.settings import Settings
from bot.skills.names import SkillName
from bot.standins import serving
from bot.standins.registry import Fault, Registry, registry_app, samples
from bot.standins.registry.faults import EVERYTHING
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app
from bot.standins.telegram import running as simulating
from bot.standins.telegram.client import SimulatedMessage, SimulatedPerson
from bot.store import now
from bot.store.tables import (
    Announcement,
    ContainerState,
    Instance,
    News,
    Onboarding,
    Skill,
    SkillLock,
    SkillOrigin,
    SkillPolicy,
    SkillProgress,
    SkillState,
    SkillStatus,
    SkillVersion,
    SkillWish,
    User,
    UserStatus,
    Wanted,
)
from bot.timeline import Stage, note
from bot.users import people
from tests.integration.conftest import TELEGRAM_TOKEN
from tests.integration.front.conftest import eventually

WITHIN = 60.0
SETS = """
[needs.weather]
title = "Weather"
says = "Says what it will be like outside."
skills = ["@samples/city-weather", "@samples/tide-tables"]

[needs.numbers]
title = "Numbers"
says = "Counts."
skills = ["@samples/unit-converter", "@samples/coin-helper"]
"""


@dataclass
class Chat:
    """Ada's chat with the bot, what she does there, and what the provisioner does meanwhile."""

    front: Front
    registry: Registry
    people: SimulatorClient
    ada: SimulatedPerson
    instance_id: str = ""

    async def says(self, text: str, expected: str) -> SimulatedMessage:
        """The message that comes after what Ada wrote, once it says what is expected."""
        said = await self.people.say(self.ada, text)
        return await self._message(expected, said.id)

    async def presses(self, message: SimulatedMessage, label: str, expected: str) -> SimulatedMessage:
        """The same message, once it says what is expected."""
        await self.people.press(self.ada, await self._message("", message.id - 1), label)
        return await self._message(expected, message.id - 1)

    async def sees(self, expected: str) -> SimulatedMessage:
        """A message of the bot's that says this."""
        return await self._message(expected, 0)

    async def texts(self) -> list[str]:
        """All that the bot says in the chat now."""
        return [message.text for message in await self.people.messages(self.ada) if message.from_bot]

    async def _message(self, expected: str, after: int) -> SimulatedMessage:
        async def found() -> SimulatedMessage | None:
            messages = [m for m in await self.people.messages(self.ada) if m.from_bot and m.id > after]
            return next((message for message in messages if expected in message.text), None)

        try:
            message: SimulatedMessage = await eventually(found, WITHIN)
        except AssertionError:
            raise AssertionError(f"{expected!r} is in none of {await self.texts()}") from None
        return message

    async def wishes(self) -> dict[str, SkillWish]:
        """What is wished, by name."""
        async with self.front.context.database.read() as session:
            return {f"@{wish.owner}/{wish.slug}": wish for wish in await session.scalars(select(SkillWish))}

    async def provisioner(
        self, name: str, state: SkillStatus | None, news: News | None = None, says: str = "", **more: Any
    ) -> None:
        """What the provisioner notes of a skill, and announces, in one commit; None: it removed it."""
        owner, slug = name.removeprefix("@").split("/")
        detail = {"owner": owner, "slug": slug, "version": more.get("version"), "says": says}
        if news is News.SKILL_ASKS:
            detail |= {"version": more["offered"], "asks": more["asks"]}
        async with self.front.context.database.write() as session:
            if state is None:
                row = await session.get(SkillState, (self.instance_id, owner, slug))
                if row is not None:
                    await session.delete(row)
            else:
                failed = says if state is SkillStatus.FAILED else ""
                columns = {"state": state, "detail": failed, "updated_at": now(), **more}
                await session.merge(SkillState(instance_id=self.instance_id, owner=owner, slug=slug, **columns))
            if news is not None:
                session.add(Announcement(telegram_id=self.ada.id, news=news, detail=detail, created_at=now()))
        self.front.context.nudge.ring(Topic.INSTANCES)

    async def installed(self, name: str, version: str) -> None:
        """The provisioner has installed it, as it does: state, lock and news."""
        owner, slug = name.removeprefix("@").split("/")
        async with self.front.context.database.write() as session:
            lock = SkillLock(instance_id=self.instance_id, owner=owner, slug=slug, version=version)
            lock.digest, lock.origin, lock.at = "sha256:0", SkillOrigin.INSTALL, now()
            await session.merge(lock)
        await self.provisioner(name, SkillStatus.INSTALLED, News.SKILL_INSTALLED, version=version)


@pytest.fixture
async def chat(
    make_settings: Callable[..., Settings], make_context: Callable[[Settings], FrontContext], tmp_path: Path
) -> AsyncIterator[Chat]:
    """Somebody who has an instance; nothing of the network but loopback."""
    registry = Registry(samples())
    sets = tmp_path / "sets.toml"
    sets.write_text(SETS)
    async with (
        simulating(create_app(SimulatorConfig(TELEGRAM_TOKEN))) as telegram,
        serving.running(registry_app(registry)) as url,
        SimulatorClient(telegram) as client,
    ):
        context = make_context(make_settings(telegram_api=telegram, skills_url=url, skill_sets=sets))
        ada = await client.new_user(first_name="Ada")
        chat = Chat(Front(context), registry, client, ada, new_instance_id())
        async with context.database.write() as session:
            user = await people.remember(session, ada.id, "Ada")
            user.status, user.onboarding = UserStatus.ACTIVE, Onboarding.DONE
            await people.wish(session, user, Wanted.AWAKE)
            instance = Instance(
                id=chat.instance_id, user_id=user.id, plan="standard", image="sha256:0", created_at=now()
            )
            instance.container, instance.ready_at, instance.met_generation = ContainerState.RUNNING, now(), 1
            session.add(instance)
        await chat.front.start()
        try:
            # A bot may write to nobody who has not written to it.
            await chat.says("/help", "Just write")
            yield chat
        finally:
            await chat.front.stop()


async def test_found_installed_followed_and_removed(chat: Chat) -> None:
    empty = await chat.says("/skills", "has no skills yet")
    assert "Look for more" in str(empty.buttons)
    found = await chat.says("/skills weather", "City weather")
    # What it needs, in plain words, of the version that was vetted.
    assert "runs the programs curl and jq" in found.text
    assert "wants a key from you: CITY_WEATHER_KEY" in found.text
    assert "names the addresses warnings.example and weather.example" in found.text
    assert chat.registry.downloads["@samples/city-weather@1.1.0"] == 1
    await chat.presses(found, "➕ City weather", "comes as soon as")
    wish = (await chat.wishes())["@samples/city-weather"]
    assert (wish.wanted, wish.policy, wish.source, wish.version) == ("present", SkillPolicy.PATCH, "person", None)
    # What was shown, and nothing else.
    assert wish.approved == "1.1.0"
    await chat.provisioner("@samples/city-weather", SkillStatus.INSTALLING, offered="1.1.0")
    await chat.sees("is being installed")
    before = len(await chat.texts())
    await chat.installed("@samples/city-weather", "1.1.0")
    done = await chat.sees("City weather is there")
    # It is the message of the search, and there is no other.
    assert done.id == found.id
    assert len(await chat.texts()) == before

    mine = await chat.says("/skills", "City weather 1.1.0 – installed")
    page = await chat.presses(mine, "City weather", "small fixes come by themselves")
    assert "runs the programs curl and jq" in page.text
    await chat.presses(page, "🗑 Remove", "comes as soon as")
    assert (await chat.wishes())["@samples/city-weather"].wanted == "absent"
    await chat.provisioner("@samples/city-weather", SkillStatus.REMOVING, version="1.1.0")
    await chat.sees("is being removed")
    async with chat.front.context.database.write() as session:
        await session.delete(await session.get_one(SkillLock, (chat.instance_id, "samples", "city-weather", "1.1.0")))
    await chat.provisioner("@samples/city-weather", None)
    await chat.sees("City weather is gone")
    async with chat.front.context.database.read() as session:
        assert (await session.scalars(select(SkillProgress))).all() == []


async def test_what_may_not_be_had_says_why_and_has_no_button(chat: Chat) -> None:
    refused = await chat.says("/skills @samples/coin-helper", "does not install @samples/coin-helper")
    assert "Install" not in str(refused.buttons)
    # The same by its bare name, which a search does not find any more.
    await chat.says("/skills coin-helper", "coin-helper@1.0.0")
    assert "Nothing for “zeppelins”" in (await chat.says("/skills zeppelins", "Nothing for")).text
    await chat.front.skills.recall(SkillName("samples", "tide-tables"), None, "It sends addresses away.")
    recalled = await chat.says("/skills @samples/tide-tables", "was recalled")
    assert "It sends addresses away." in recalled.text
    assert await chat.wishes() == {}


async def test_while_the_registry_is_away_what_is_kept_is_found(chat: Chat) -> None:
    found = await chat.says("/skills tide", "Tide tables")
    chat.registry.faults[EVERYTHING] = Fault(status=503)
    chat.front.skills.ask_again()
    again = await chat.says("/skills tide", "ClawHub does not answer")
    assert "Tide tables" in again.text
    await chat.presses(again, "➕ Tide tables", "comes as soon as")
    assert "@samples/tide-tables" in await chat.wishes()
    assert found.id != again.id
    # Nothing that is kept fits: that it is away is said, not that there is nothing.
    await chat.says("/skills units", "does not answer, and nothing that Zaki has kept fits")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_words_may_be_given_to_a_question(chat: Chat) -> None:
    mine = await chat.says("/skills", "has no skills yet")
    await chat.people.press(chat.ada, mine, "🔎 Look for more")
    question = await chat.sees("what the skill should do")
    await chat.people.say(chat.ada, "converts units", reply_to=question.id)
    await chat.sees("Unit converter")


async def test_what_an_update_newly_asks_for_is_decided_by_its_owner(chat: Chat) -> None:
    await chat.says("/skills @samples/city-weather", "City weather")
    await chat.installed("@samples/city-weather", "1.0.0")
    asks = {"bins": ["jq"], "env": ["CITY_WEATHER_KEY"]}
    state: dict[str, Any] = {"version": "1.0.0", "offered": "1.1.0", "asks": asks}
    await chat.provisioner("@samples/city-weather", SkillStatus.ASKS, News.SKILL_ASKS, **state)
    asked = await chat.sees("Version 1.1.0 newly asks for this")
    assert "It runs the program jq" in asked.text
    assert "It wants a key from you: CITY_WEATHER_KEY" in asked.text
    assert "stays at 1.0.0 until you decide" in asked.text
    await chat.presses(asked, "Keep the old one", "stays at 1.0.0. /skills changes that")
    wish = (await chat.wishes())["@samples/city-weather"]
    assert (wish.policy, wish.version, wish.approved) == (SkillPolicy.PIN, "1.0.0", None)

    # The same on its page, this time with the other answer.
    mine = await chat.says("/skills", "version 1.1.0 waits for your word")
    page = await chat.presses(mine, "City weather", "newly asks for this")
    await chat.presses(page, "Update", "comes as soon as")
    wish = (await chat.wishes())["@samples/city-weather"]
    assert (wish.approved, wish.version) == ("1.1.0", "1.1.0")


async def test_an_answer_about_another_version_changes_nothing(chat: Chat) -> None:
    await chat.installed("@samples/tide-tables", "1.0.0")
    state: dict[str, Any] = {"version": "1.0.0", "offered": "1.1.0", "asks": {"bins": ["jq"]}}
    await chat.provisioner("@samples/tide-tables", SkillStatus.ASKS, News.SKILL_ASKS, **state)
    asked = await chat.sees("Version 1.1.0 newly asks")
    newer: dict[str, Any] = {"version": "1.0.0", "offered": "1.2.0", "asks": {"bins": ["jq", "ssh"]}}
    await chat.provisioner("@samples/tide-tables", SkillStatus.ASKS, **newer)
    page = await chat.presses(asked, "Update", "Version 1.2.0 newly asks")
    assert "jq and ssh" in page.text
    wish = (await chat.wishes()).get("@samples/tide-tables")
    assert wish is None or wish.approved is None


async def test_how_a_skill_is_kept_current(chat: Chat) -> None:
    await chat.installed("@samples/meeting-notes", "1.0.0")
    mine = await chat.says("/skills", "1.0.0 – ")
    page = await chat.presses(mine, "meeting-notes", "Updates:")
    page = await chat.presses(page, "Updates…", "Which new versions")
    await chat.presses(page, "Stay at this version", "Which new versions")

    async def pinned() -> bool:
        wish = (await chat.wishes()).get("@samples/meeting-notes")
        return wish is not None and (wish.policy, wish.version) == (SkillPolicy.PIN, "1.0.0")

    await eventually(pinned, WITHIN)
    page = await chat.presses(page, "Every new version by itself", "Which new versions")

    async def latest() -> bool:
        wish = (await chat.wishes())["@samples/meeting-notes"]
        return (wish.policy, wish.version) == (SkillPolicy.LATEST, None)

    await eventually(latest, WITHIN)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_recall_is_one_sentence(chat: Chat) -> None:
    found = await chat.says("/skills tide", "Tide tables")
    await chat.presses(found, "➕ Tide tables", "comes as soon as")
    await chat.installed("@samples/tide-tables", "1.0.0")
    await chat.sees("is there")
    says = "Tide tables was taken back by the people who run this bot: it lies about <tides>."
    await chat.front.skills.recall(SkillName("samples", "tide-tables"), None, "It lies about <tides>.")
    await chat.provisioner("@samples/tide-tables", None, News.SKILL_RECALLED, says)
    told = await chat.sees(says)
    assert told.buttons == ()
    # As a whole: that nothing can be had any more is not told as a failure as well.
    assert (await chat.wishes())["@samples/tide-tables"].wanted == "absent"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_failure_is_told_where_it_was_asked_for(chat: Chat) -> None:
    found = await chat.says("/skills tide", "Tide tables")
    await chat.presses(found, "➕ Tide tables", "comes as soon as")
    says = "The disk is full."
    await chat.provisioner("@samples/tide-tables", SkillStatus.FAILED, News.SKILL_FAILED, says)
    failed = await chat.sees("did not work. The disk is full.")
    assert failed.id == found.id
    # It can be seen and taken back afterwards.
    mine = await chat.presses(failed, "‹ My skills", "could not be installed")
    await chat.presses(mine, "Tide tables", "The disk is full.")


async def test_sets_are_offered_after_the_first_reply_and_not_before(chat: Chat) -> None:
    async with chat.front.context.database.write() as session:
        note(session, chat.ada.id, Stage.DELIVERED)
    assert not any("can learn more" in text for text in await chat.texts())
    async with chat.front.context.database.write() as session:
        await note_reply(session, chat.ada.id)
    offer = await chat.sees("can learn more")
    assert "Weather: Says what it will be like outside." in offer.text
    page = await chat.presses(offer, "Numbers", "Unit converter")
    # One of the set does not pass, and that is said before anything is installed.
    assert "does not install @samples/coin-helper" in page.text
    await chat.presses(page, "➕ Install", "Unit converter comes as soon as")
    wishes = await chat.wishes()
    assert {name: wish.source for name, wish in wishes.items()} == {"@samples/unit-converter": "onboarding"}
    assert wishes["@samples/unit-converter"].approved == "2.0.1"
    async with chat.front.context.database.write() as session:
        note(session, chat.ada.id, Stage.DELIVERED)
        await session.flush()
        await note_reply(session, chat.ada.id)
    await chat.says("/skills", "Unit converter")
    assert sum("can learn more" in text for text in await chat.texts()) == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_set_is_installed_as_it_was_shown_or_shown_again(chat: Chat) -> None:
    needs = await chat.presses(await chat.says("/skills", "no skills yet"), "💡 Suggestions", "good at")
    page = await chat.presses(needs, "Numbers", "Unit converter 2.0.1")
    async with chat.front.context.database.write() as session:
        old = await session.get_one(SkillVersion, ("samples", "unit-converter", "2.0.1"))
        columns = {column.name: getattr(old, column.name) for column in SkillVersion.__table__.columns}
        session.add(SkillVersion(**{**columns, "version": "2.0.2", "needs": {"bins": ["units"]}}))
        (await session.get_one(Skill, ("samples", "unit-converter"))).latest = "2.0.2"
    page = await chat.presses(page, "➕ Install", "Unit converter 2.0.2")
    assert "runs the program units" in page.text
    assert await chat.wishes() == {}
    await chat.presses(page, "➕ Install", "comes as soon as")
    assert (await chat.wishes())["@samples/unit-converter"].approved == "2.0.2"


async def test_suggestions_say_why_and_look_at_messages_only_if_they_may(chat: Chat) -> None:
    await chat.installed("@samples/city-weather", "1.1.0")
    mine = await chat.says("/skills", "city-weather")
    ideas = await chat.presses(mine, "💡 Suggestions", "You may like")
    assert "tide-tables, because you have city-weather and it is for weather too." in ideas.text
    assert "unit-converter" not in ideas.text

    body = b'{"update_id": 1, "message": {"text": "I like numbers and secrets"}}'
    chat.front.router._interests.delivered(chat.ada.id, body)
    options = await chat.presses(await chat.says("/skills", "city-weather"), "⚙️ Settings", "Now: off")
    await chat.presses(options, "Suggestions from my messages too", "Now: on")

    async def watched() -> bool:
        return chat.ada.id in chat.front.router._interests._who

    await eventually(watched, WITHIN)
    ideas = await chat.presses(await chat.says("/skills", "city-weather"), "💡 Suggestions", "You may like")
    assert "unit-converter" not in ideas.text
    chat.front.router._interests.delivered(chat.ada.id, body)

    async def suggested() -> bool:
        ideas = await chat.presses(await chat.says("/skills", "city-weather"), "💡 Suggestions", "You may like")
        return "unit-converter, because you wrote about numbers." in ideas.text

    await eventually(suggested, WITHIN)
    options = await chat.presses(await chat.says("/skills", "city-weather"), "⚙️ Settings", "Now: on")
    await chat.presses(options, "Do not look at my messages", "Now: off")
    ideas = await chat.presses(await chat.says("/skills", "city-weather"), "💡 Suggestions", "You may like")
    assert "unit-converter" not in ideas.text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_with_deletion_all_of_it_goes(chat: Chat) -> None:
    found = await chat.says("/skills tide", "Tide tables")
    await chat.presses(found, "➕ Tide tables", "comes as soon as")
    async with chat.front.context.database.write() as session:
        user = (await session.scalars(select(User))).one()
        await people.leave(session, user)
        await session.delete(await session.get_one(Instance, chat.instance_id))
    chat.front.context.nudge.ring(Topic.INBOX)

    async def gone() -> bool:
        async with chat.front.context.database.read() as session:
            return (await session.scalars(select(User))).one_or_none() is None

    await eventually(gone, WITHIN)
    async with chat.front.context.database.read() as session:
        for table in (SkillWish, SkillProgress):
            assert (await session.scalars(select(table))).all() == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_whoever_asks_without_end_is_not_looked_up(chat: Chat) -> None:
    for number in range(20):
        await chat.people.say(chat.ada, f"/skills nothing{number}")
    await chat.says("/skills tide", "Try again in a few minutes")
    assert not any("Tide tables" in text for text in await chat.texts())
    # What needs no look-up goes on.
    await chat.says("/skills", "has no skills yet")
