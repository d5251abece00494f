"""What `--say` takes for the reply, and when it gives up; the service is played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bot.demo.mirror import mirror_timeline
from bot.demo.say import NoReply, Step, TurnedAway, say
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.standins.telegram.client import SimulatedPerson
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, OutboxMessage, OutboxStatus, User
from bot.timeline import Stage, note

TOKEN = "123456789:AAtests-only-not-a-real-token-000000"
INSTANCE = "u-aaaaaaaaaa"


class Zaki:
    """The service, as far as somebody who waits for a reply can see it."""

    def __init__(self, url: str, database: Database, person: SimulatedPerson) -> None:
        self._api = f"{url}/bot{TOKEN}"
        self._database = database
        self._person = person

    async def reaches(self, *stages: Stage, detail: str = "") -> None:
        async with self._database.write() as session:
            for stage in stages:
                note(session, self._person.id, stage, detail)

    async def makes_an_instance(self, failure: str | None = None) -> None:
        async with self._database.write() as session:
            user = User(telegram_id=self._person.id, created_at=now())
            session.add(user)
            await session.flush()
            session.add(
                Instance(
                    id=INSTANCE,
                    user_id=user.id,
                    plan="standard",
                    image="sha256:0",
                    container=ContainerState.RUNNING,
                    failure=failure,
                    created_at=now(),
                )
            )

    async def sends(self, text: str, instance: str | None = INSTANCE) -> int:
        message = await self._call("sendMessage", chat_id=self._person.id, text=text)
        async with self._database.write() as session:
            session.add(
                OutboxMessage(
                    instance_id=instance,
                    chat_id=self._person.id,
                    method="sendMessage",
                    params={},
                    status=OutboxStatus.SENT,
                    message_id=message["message_id"],
                    created_at=now(),
                    finished_at=now(),
                )
            )
        return int(message["message_id"])

    async def edits(self, message_id: int, text: str) -> None:
        await self._call("editMessageText", chat_id=self._person.id, message_id=message_id, text=text)

    async def _call(self, method: str, **params: Any) -> Any:
        async with httpx.AsyncClient() as http:
            answer = (await http.post(f"{self._api}/{method}", json=params)).json()
        assert answer["ok"], answer
        return answer["result"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with running(create_app(SimulatorConfig(token=TOKEN))) as url:
        yield url


@pytest.fixture
async def people(url: str) -> AsyncIterator[SimulatorClient]:
    async with SimulatorClient(url) as people:
        yield people


@pytest.fixture
async def person(people: SimulatorClient) -> SimulatedPerson:
    return await people.new_user()


@pytest.fixture
def zaki(url: str, database: Database, person: SimulatedPerson) -> Zaki:
    return Zaki(url, database, person)


async def test_the_reply_is_the_instances_last_word_and_not_zakis_own(
    people: SimulatorClient, database: Database, person: SimulatedPerson, zaki: Zaki
) -> None:
    seen: list[tuple[Step, ...]] = []
    talk = asyncio.create_task(say(people, database, person, "Hello?", seen.append))
    async with asyncio.timeout(30):
        while not await people.messages(person):
            await asyncio.sleep(0.01)
        await zaki.reaches(Stage.RECEIVED, Stage.ADMITTED)
        await zaki.sends("Setting up …", instance=None)
        await zaki.makes_an_instance()
        await zaki.reaches(Stage.READY, Stage.DELIVERED)
        message = await zaki.sends("Hel")
        await zaki.reaches(Stage.REPLIED)
        await zaki.edits(message, "Hello to you")
        answer = await talk
    assert answer.reply == "Hello to you"
    assert (answer.instance, answer.telegram_id) == (INSTANCE, person.id)
    assert [step.stage for step in answer.steps] == ["received", "admitted", "ready", "delivered", "replied"]
    assert answer.steps[0].seconds == 0
    assert [step.stage for step in seen[-1]] == [step.stage for step in answer.steps]
    assert answer.as_json()["timeline"][-1]["stage"] == "replied"


async def test_somebody_who_is_refused_is_told_what_zaki_said(
    people: SimulatorClient, database: Database, person: SimulatedPerson, zaki: Zaki
) -> None:
    talk = asyncio.create_task(say(people, database, person, "Hello?", lambda _steps: None))
    async with asyncio.timeout(30):
        while not await people.messages(person):
            await asyncio.sleep(0.01)
        await zaki.sends("Sorry, all places are taken right now.", instance=None)
        await zaki.reaches(Stage.RECEIVED, Stage.REFUSED)
        with pytest.raises(TurnedAway, match="all places are taken"):
            await talk


async def test_a_failed_instance_ends_the_wait_with_its_reason(
    people: SimulatorClient, database: Database, person: SimulatedPerson, zaki: Zaki
) -> None:
    await zaki.makes_an_instance(failure="The gateway ran out of memory; give its plan more.")
    await zaki.reaches(Stage.RECEIVED)
    with pytest.raises(NoReply, match=rf"ran out of memory.*{INSTANCE}"):
        await say(people, database, person, "Hello?", lambda _steps: None, within=30)


async def test_silence_is_told_with_the_last_stage(
    people: SimulatorClient, database: Database, person: SimulatedPerson, zaki: Zaki
) -> None:
    await zaki.reaches(Stage.RECEIVED, Stage.CREATING)
    with pytest.raises(NoReply, match="creating"):
        await say(people, database, person, "Hello?", lambda _steps: None, within=0.5)


async def test_the_chat_page_shows_what_the_service_notes(
    people: SimulatorClient, database: Database, person: SimulatedPerson, zaki: Zaki
) -> None:
    await zaki.reaches(Stage.RECEIVED, detail="of an earlier demo")
    mirror = asyncio.create_task(mirror_timeline(database, people))
    try:
        async with asyncio.timeout(30):
            # It shows what is noted after it began, so note until something comes.
            while not await people.timeline(person):
                await zaki.reaches(Stage.READY, detail="ready now")
                await asyncio.sleep(0.05)
    finally:
        mirror.cancel()
        await asyncio.gather(mirror, return_exceptions=True)
    assert {(step.stage, step.detail) for step in await people.timeline(person)} == {("ready", "ready now")}
