"""The front against the Telegram simulator, by long polling and by webhook, with a gateway that only takes updates."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from sqlalchemy import select, update

from bot.credentials import new_instance_id
from bot.front.app import Front, public_app
from bot.front.context import FrontContext
from bot.front.delivery import Delivery
from bot.nudge import Topic
from bot.settings import Settings
from bot.standins.serving import running
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app
from bot.store import now
from bot.store.tables import ContainerState, Instance, User, Wish
from tests.integration.conftest import TELEGRAM_TOKEN
from tests.integration.front.conftest import Gateways, eventually

MakeContext = Callable[[Settings], FrontContext]
MakeSettings = Callable[..., Settings]


@pytest.fixture
async def telegram() -> AsyncIterator[tuple[str, SimulatorClient]]:
    """The simulator's URL, and what its people do."""
    async with (
        running(create_app(SimulatorConfig(token=TELEGRAM_TOKEN))) as url,
        SimulatorClient(url) as client,
    ):
        yield url, client


@asynccontextmanager
async def _front(context: FrontContext, gateways: Gateways, public_port: int = 0) -> AsyncIterator[Front]:
    front = Front(context, Delivery(context.key, gateways.port))
    async with running(public_app(front), port=public_port):
        await front.start()
        try:
            yield front
        finally:
            await front.stop()


async def _bring_up(context: FrontContext, telegram_id: int) -> None:
    """The provisioner's work, once there is a wish."""

    async def wished() -> tuple[User, Wish] | None:
        query = select(User, Wish).join(Wish, Wish.user_id == User.id).where(User.telegram_id == telegram_id)
        async with context.database.read() as session:
            found = (await session.execute(query)).one_or_none()
        return (found[0], found[1]) if found else None

    user, wish = await eventually(wished)
    async with context.database.write() as session:
        session.add(
            Instance(
                id=new_instance_id(),
                user_id=user.id,
                plan="standard",
                image="sha256:0",
                address="127.0.0.1",
                container=ContainerState.RUNNING,
                ready_at=now(),
                met_generation=wish.generation,
                created_at=now(),
            )
        )
    context.nudge.ring(Topic.INSTANCES)


async def _arrived(gateways: Gateways, text: str) -> bytes:
    """The body of the message with this text, once the gateway has it."""

    async def found() -> bytes | None:
        for body in gateways.bodies["127.0.0.1"]:
            if json.loads(body).get("message", {}).get("text") == text:
                return body
        return None

    return bytes(await eventually(found, 30))


async def test_by_long_polling(
    telegram: tuple[str, SimulatorClient], make_context: MakeContext, make_settings: MakeSettings, gateways: Gateways
) -> None:
    url, people = telegram
    context = make_context(make_settings(telegram_api=url))
    ada = await people.new_user(first_name="Ada", language_code="de")
    async with _front(context, gateways):
        first = await people.say(ada, "hello")
        notice = await people.wait_for_reply(ada, after=first.id, timeout=30)
        assert "Setting up" in notice.text
        await _bring_up(context, ada.id)
        body = await _arrived(gateways, "hello")
        assert json.loads(body)["message"]["from"]["id"] == ada.id

        async def ready() -> bool:
            return any("ready" in message.text for message in await people.messages(ada) if message.id == notice.id)

        await eventually(ready, 30)

        start = await people.say(ada, "/start")
        question = await people.wait_for_reply(
            ada, after=start.id, timeout=30, predicate=lambda message: "call you" in message.text
        )
        await people.press(ada, question, "Ada")

        async def asked_for_zone() -> bool:
            return any("time zone" in message.text for message in await people.messages(ada))

        await eventually(asked_for_zone, 30)
        names = [call.method for call in await people.calls()]
        assert {"setMyCommands", "setMyDescription", "answerCallbackQuery", "sendChatAction"} <= set(names)
        assert len([body for body in gateways.bodies["127.0.0.1"] if b"/start" in body]) == 0


async def test_polling_survives_an_outage_and_takes_over_from_a_webhook(
    telegram: tuple[str, SimulatorClient], make_context: MakeContext, make_settings: MakeSettings, gateways: Gateways
) -> None:
    url, people = telegram
    context = make_context(make_settings(telegram_api=url))
    async with httpx.AsyncClient(trust_env=False) as other:
        hook = {"url": "https://elsewhere.example/hook"}
        assert (await other.post(f"{url}/bot{TELEGRAM_TOKEN}/setWebhook", json=hook)).json()["ok"]
    ada = await people.new_user(first_name="Ada")
    async with _front(context, gateways):
        await people.say(ada, "one")
        await _bring_up(context, ada.id)
        await _arrived(gateways, "one")
        await people.inject_outage(1.0)
        await people.say(ada, "two")
        await _arrived(gateways, "two")
    # What is said while nothing runs is there for the next start, and nothing comes twice.
    await people.say(ada, "three")
    async with _front(context, gateways):
        await _arrived(gateways, "three")
    texts = [json.loads(body)["message"]["text"] for body in gateways.bodies["127.0.0.1"]]
    assert texts == ["one", "two", "three"]


async def test_typing_is_what_the_person_sees_first(
    telegram: tuple[str, SimulatorClient], make_context: MakeContext, make_settings: MakeSettings, gateways: Gateways
) -> None:
    url, people = telegram
    context = make_context(make_settings(telegram_api=url))
    ada = await people.new_user(first_name="Ada")
    async with _front(context, gateways):
        await people.say(ada, "hello")
        await _bring_up(context, ada.id)
        await _arrived(gateways, "hello")
        async with context.database.write() as session:
            await session.execute(
                update(Instance).values(container=ContainerState.PAUSED, ready_at=None, resting_since=now())
            )
        before = len(await people.calls("sendChatAction"))
        await people.say(ada, "and now?")

        async def shown() -> bool:
            return len(await people.calls("sendChatAction")) > before

        # The instance is never up here.
        await eventually(shown, 30)


async def test_by_webhook(
    telegram: tuple[str, SimulatorClient],
    make_context: MakeContext,
    make_settings: MakeSettings,
    gateways: Gateways,
    unused_tcp_port: int,
) -> None:
    url, people = telegram
    public_url = f"http://127.0.0.1:{unused_tcp_port}"
    context = make_context(make_settings(telegram_api=url, public_url=public_url))
    ada = await people.new_user(first_name="Ada")
    async with _front(context, gateways, unused_tcp_port):

        async def registered() -> bool:
            return bool(await people.calls("setWebhook"))

        await eventually(registered)
        asked = (await people.calls("setWebhook"))[0].params
        assert "message_reaction" in str(asked["allowed_updates"])
        first = await people.say(ada, "hello")
        await _bring_up(context, ada.id)
        await _arrived(gateways, "hello")
        await people.react(ada, first.id, "👍")

        async def reaction() -> bool:
            return any(b"message_reaction" in body for body in gateways.bodies["127.0.0.1"])

        await eventually(reaction, 30)
        assert await people.calls("getUpdates") == []
