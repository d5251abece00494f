"""Ordered faults, Telegram's own limits, and the control API's refusals."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest
from telegram import Bot
from telegram.error import BadRequest, NetworkError, RetryAfter, TimedOut

from bot.standins.telegram.client import SimulatorError


@pytest.fixture
async def person(sim: Any) -> Any:
    someone = await sim.client.new_user()
    await sim.client.say(someone, "hello")
    return someone


async def test_429_for_the_next_calls_of_a_method(sim: Any, bot: Bot, person: Any) -> None:
    await sim.client.inject_429(7, count=2, methods=["sendMessage"])
    assert (await bot.get_chat(person.id)).id == person.id
    for _ in range(2):
        with pytest.raises(RetryAfter) as refused:
            await bot.send_message(person.id, "x")
        assert refused.value.retry_after == timedelta(seconds=7)
    assert (await bot.send_message(person.id, "x")).text == "x"
    assert [call.status for call in await sim.client.calls("sendMessage")] == [429, 429, 200]


async def test_429_for_one_chat(sim: Any, bot: Bot, person: Any) -> None:
    other = await sim.client.new_user()
    await sim.client.say(other, "hello")
    await sim.client.inject_429(chat_id=person.id, count=None)
    await bot.send_message(other.id, "x")
    with pytest.raises(RetryAfter):
        await bot.send_message(person.id, "x")
    await sim.client.clear_faults()
    await bot.send_message(person.id, "x")


@pytest.mark.parametrize("kind", ["bad_gateway", "cut"])
async def test_an_outage_ends_by_itself(timed_sim: Any, clock: Any, kind: str) -> None:
    someone = await timed_sim.client.new_user()
    await timed_sim.client.say(someone, "hello")
    async with timed_sim.bot() as bot:
        await timed_sim.client.inject_outage(30, kind)
        with pytest.raises(NetworkError):
            await bot.send_message(someone.id, "x")
        clock.advance(31)
        await bot.send_message(someone.id, "x")
    assert len(await timed_sim.client.messages(someone)) == 2


async def test_a_cut_answer_to_a_call_that_was_carried_out(sim: Any, bot: Bot, person: Any) -> None:
    await sim.client.inject("cut_after")
    with pytest.raises(NetworkError):
        await bot.send_message(person.id, "once")
    assert [message.text for message in await sim.client.messages(person)] == ["hello", "once"]


async def test_a_hanging_call(sim: Any, bot: Bot, person: Any) -> None:
    await sim.client.inject("hang", delay=30)
    with pytest.raises(TimedOut):
        await bot.send_message(person.id, "x", read_timeout=0.1)
    assert len(await sim.client.messages(person)) == 1


async def test_any_error(sim: Any, bot: Bot, person: Any) -> None:
    await sim.client.inject("error", status=400, description="Bad Request: PEER_ID_INVALID")
    with pytest.raises(BadRequest, match=r"(?i)peer_id_invalid"):
        await bot.send_message(person.id, "x")


async def test_latency(timed_sim: Any, clock: Any, eventually: Any) -> None:
    someone = await timed_sim.client.new_user()
    await timed_sim.client.say(someone, "hello")
    await timed_sim.client.inject("latency", delay=5, methods=["sendMessage"])
    async with timed_sim.bot() as bot:
        sending = asyncio.create_task(bot.send_message(someone.id, "slow"))
        await eventually(lambda: clock.pauses() == [5])
        assert len(await timed_sim.client.messages(someone)) == 1
        clock.advance(5)
        assert (await sending).text == "slow"


async def test_telegrams_own_limits(limited_sim: Any) -> None:
    someone = await limited_sim.client.new_user()
    await limited_sim.client.say(someone, "hello")
    async with limited_sim.bot() as bot:
        for number in range(5):
            await bot.send_message(someone.id, str(number))
        with pytest.raises(RetryAfter):
            await bot.send_message(someone.id, "one too many")
        limited_sim.simulator.clock.advance(5)
        await bot.send_message(someone.id, "in time")
        group = await limited_sim.client.new_group("Friends", someone)
        for number in range(20):
            limited_sim.simulator.clock.advance(1)
            await bot.send_message(group, str(number))
        with pytest.raises(RetryAfter):
            await bot.send_message(group, "one too many")


async def test_what_people_cannot_do(sim: Any, bot: Bot, person: Any) -> None:
    answer = await bot.send_message(person.id, "x")
    with pytest.raises(SimulatorError, match="Only your own messages can be edited"):
        await sim.client.edit(person, answer.message_id, "y")
    with pytest.raises(SimulatorError, match="There is no message 1 "):
        await sim.client.say(person, "y", reply_to=1)
    await sim.client.block(person)
    with pytest.raises(SimulatorError, match="You have blocked this bot"):
        await sim.client.say(person, "y")


async def test_reset_forgets_people_and_never_repeats_a_message_id(sim: Any, bot: Bot, person: Any) -> None:
    before = (await sim.client.messages(person))[-1].id
    await sim.client.reset()
    assert await sim.client.users() == []
    again = await sim.client.new_user(user_id=person.id)
    assert (await sim.client.say(again, "hello")).id > before


async def test_another_sites_page_may_not_write(sim: Any) -> None:
    async with httpx.AsyncClient(base_url=sim.url, trust_env=False) as browser:
        refused = await browser.post("/sim/users", json={}, headers={"Origin": "https://evil.example"})
        allowed = await browser.post("/sim/users", json={}, headers={"Origin": sim.url})
    assert (refused.status_code, allowed.status_code) == (403, 201)


async def test_the_timeline(sim: Any, person: Any) -> None:
    await sim.client.add_timeline(person.id, "received", at=1000.25)
    await sim.client.add_timeline(person.id, "delivered", {"instance": "u-1"})
    steps = await sim.client.timeline(person)
    assert (steps[0].at, steps[0].stage, steps[1].detail) == (1000.25, "received", {"instance": "u-1"})
