"""Delivery to a webhook, by Telegram's rules."""

from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from telegram import Bot, Update
from telegram.error import BadRequest
from telegram.ext import Application, MessageHandler, filters


def texts(receiver: Any) -> list[str]:
    return [update["message"]["text"] for update in receiver.received]


async def test_updates_arrive_with_the_secret(sim: Any, bot: Bot, receiver: Any, eventually: Any) -> None:
    await bot.set_webhook(receiver.url, secret_token="a-secret_1", allowed_updates=["message"])
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    await eventually(lambda: len(sim.simulator.updates) == 0)
    assert receiver.secrets == ["a-secret_1"]
    update = Update.de_json(receiver.received[0], bot)
    assert update.message is not None
    assert (update.message.text, update.effective_user and update.effective_user.id) == ("hello", person.id)
    info = await bot.get_webhook_info()
    assert (info.url, info.pending_update_count, info.allowed_updates) == (receiver.url, 0, ("message",))


async def test_a_bot_behind_a_webhook_answers(sim: Any, receiver: Any, eventually: Any) -> None:
    async def shout(update: Update, context: Any) -> None:
        assert update.message is not None
        assert update.message.text is not None
        await update.message.reply_text(update.message.text.upper())

    application = (
        Application.builder().token(sim.simulator.config.token).base_url(f"{sim.url}/bot").updater(None).build()
    )
    application.add_handler(MessageHandler(filters.TEXT, shout))
    async with application:
        await application.start()
        await application.bot.set_webhook(receiver.url)
        person = await sim.client.new_user()
        said = await sim.client.say(person, "hello")
        await eventually(lambda: bool(receiver.received))
        await application.update_queue.put(Update.de_json(receiver.received[0], application.bot))
        assert (await sim.client.wait_for_reply(person, after=said.id)).text == "HELLO"
        await application.stop()


async def test_a_failed_update_comes_again_and_holds_up_its_chat_only(
    timed_sim: Any, clock: Any, receiver: Any, eventually: Any
) -> None:
    receiver.answers = [Response(status_code=500) for _ in range(4)]
    async with timed_sim.bot() as bot:
        await bot.set_webhook(receiver.url)
        amina, leo = await timed_sim.client.new_user(), await timed_sim.client.new_user()
        await timed_sim.client.say(amina, "first")
        await timed_sim.client.say(amina, "second")
        for failures, pause in ((2, 2.0), (3, 4.0), (4, 8.0)):
            await eventually(lambda left=pause: clock.pauses() == [left])
            assert len(receiver.received) == failures
            clock.advance(pause - 0.5)
            assert clock.pauses() == [0.5]
            if failures < 4:
                clock.advance(0.5)
        await timed_sim.client.say(leo, "from Leo")
        await eventually(lambda: len(receiver.received) == 5)
        info = await bot.get_webhook_info()
        assert info.pending_update_count == 2
        assert info.last_error_message == "Wrong response from the webhook: 500 Internal Server Error"
        clock.advance(0.5)
        await eventually(lambda: len(timed_sim.simulator.updates) == 0)
    assert texts(receiver) == ["first"] * 4 + ["from Leo", "first", "second"]
    assert len({update["update_id"] for update in receiver.received}) == 3


async def test_pauses_stop_growing_and_updates_expire(
    timed_sim: Any, clock: Any, receiver: Any, eventually: Any
) -> None:
    receiver.answers = [Response(status_code=503) for _ in range(5000)]
    async with timed_sim.bot() as bot:
        await bot.set_webhook(receiver.url)
        await timed_sim.client.say(await timed_sim.client.new_user(), "lost")
        longest = 0.0
        for _ in range(40):
            await eventually(lambda: bool(clock.pauses()))
            longest = max(longest, clock.pauses()[0])
            clock.advance(clock.pauses()[0])
        assert 60 <= longest <= 120
        clock.advance(24 * 3600)
        await eventually(lambda: len(timed_sim.simulator.updates) == 0)


async def test_retry_after_is_honoured(timed_sim: Any, clock: Any, receiver: Any, eventually: Any) -> None:
    receiver.answers = [Response(status_code=429, headers={"Retry-After": "37"})]
    async with timed_sim.bot() as bot:
        await bot.set_webhook(receiver.url)
        await timed_sim.client.say(await timed_sim.client.new_user(), "later")
        await eventually(lambda: clock.pauses() == [37])
        clock.advance(37)
        await eventually(lambda: len(timed_sim.simulator.updates) == 0)


async def test_one_in_flight_per_chat_and_a_button_overtakes(
    sim: Any, bot: Bot, receiver: Any, eventually: Any
) -> None:
    amina, leo = await sim.client.new_user(), await sim.client.new_user()
    await sim.client.say(amina, "hello")
    keyboard: Any = {"inline_keyboard": [[{"text": "b", "callback_data": "b"}]]}
    await bot.send_message(amina.id, "x", reply_markup=keyboard)
    await bot.get_updates(offset=sim.simulator.updates.last_id + 1)
    receiver.gate.clear()
    await bot.set_webhook(receiver.url)
    await sim.client.say(amina, "one")
    await sim.client.say(amina, "two")
    await sim.client.press(amina, (await sim.client.messages(amina))[1], "b")
    await sim.client.say(leo, "three")
    await eventually(lambda: len(receiver.received) == 3)
    kinds = {next(key for key in update if key != "update_id") for update in receiver.received}
    assert kinds == {"message", "callback_query"}
    assert "two" not in [update.get("message", {}).get("text") for update in receiver.received]
    receiver.gate.set()
    await eventually(lambda: len(sim.simulator.updates) == 0)
    assert receiver.received[-1]["message"]["text"] == "two"
    assert len(receiver.received) == 4


async def test_many_stuck_chats_hold_up_the_bot(timed_sim: Any, clock: Any, receiver: Any, eventually: Any) -> None:
    receiver.answers = [Response(status_code=500) for _ in range(4)]
    async with timed_sim.bot() as bot:
        await bot.set_webhook(receiver.url, max_connections=1)
        for number in range(3):
            await timed_sim.client.say(await timed_sim.client.new_user(), f"from {number}")
        await eventually(lambda: clock.pauses() == [2, 2])
        assert sorted(texts(receiver)) == ["from 0", "from 0", "from 1", "from 1"]
        clock.advance(2)
        await eventually(lambda: len(timed_sim.simulator.updates) == 0)
        assert texts(receiver)[-1] == "from 2"


async def test_an_answer_may_call_a_method(sim: Any, bot: Bot, receiver: Any) -> None:
    person = await sim.client.new_user()
    receiver.answers = [JSONResponse({"method": "sendMessage", "chat_id": person.id, "text": "In the answer"})]
    await bot.set_webhook(receiver.url)
    said = await sim.client.say(person, "hello")
    assert (await sim.client.wait_for_reply(person, after=said.id)).text == "In the answer"


async def test_undelivered_updates_can_be_polled_after_the_webhook_is_gone(sim: Any, bot: Bot) -> None:
    await bot.set_webhook("http://127.0.0.1:9/hook")
    await sim.client.say(await sim.client.new_user(), "hello")
    await bot.delete_webhook()
    assert len(await bot.get_updates()) == 1


async def test_a_webhook_that_cannot_be(bot: Bot) -> None:
    with pytest.raises(BadRequest, match=r"(?i)bad webhook"):
        await bot.set_webhook("ftp://example.org")
    with pytest.raises(BadRequest, match=r"(?i)secret token contains unallowed characters"):
        await bot.set_webhook("https://example.org", secret_token="not allowed!")
