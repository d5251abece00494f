"""getUpdates: acknowledging, waiting, conflicts, expiry."""

import asyncio
from typing import Any

import pytest
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup
from telegram.error import Conflict


async def test_an_update_stays_until_it_is_acknowledged(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    for text in ("one", "two", "three"):
        await sim.client.say(person, text)
    first = await bot.get_updates(limit=1)
    assert [update.message.text for update in first if update.message] == ["one"]
    rest = await bot.get_updates(offset=first[0].update_id + 1)
    assert [update.update_id for update in rest] == [first[0].update_id + 1, first[0].update_id + 2]
    last = await bot.get_updates(offset=-1)
    assert [update.update_id for update in last] == [rest[-1].update_id]
    assert await bot.get_updates(offset=rest[-1].update_id + 1) == ()


async def test_a_poll_waits_for_the_next_update(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    poll = asyncio.create_task(bot.get_updates(timeout=20))
    await sim.client.say(person, "at last")
    (update,) = await poll
    assert update.message is not None
    assert update.message.text == "at last"


async def test_a_second_poll_ends_the_first(sim: Any, bot: Bot, eventually: Any) -> None:
    first = asyncio.create_task(bot.get_updates(timeout=20))
    polling = sim.simulator.polling
    await eventually(lambda: polling.waiting)
    async with sim.bot() as other:
        second = asyncio.create_task(other.get_updates(timeout=20))
        with pytest.raises(Conflict, match="terminated by other getUpdates request"):
            await first
        await sim.client.say(await sim.client.new_user(), "hello")
        assert len(await second) == 1


async def test_no_polling_beside_a_webhook(sim: Any, bot: Bot) -> None:
    await bot.set_webhook("http://127.0.0.1:9/hook")
    with pytest.raises(Conflict, match="can't use getUpdates method while webhook is active"):
        await bot.get_updates()
    await bot.delete_webhook()
    assert await bot.get_updates() == ()


async def test_updates_expire(timed_sim: Any, clock: Any) -> None:
    person = await timed_sim.client.new_user()
    await timed_sim.client.say(person, "old")
    async with timed_sim.bot() as bot:
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("b", callback_data="b")]])
        message = await bot.send_message(person.id, "x", reply_markup=keyboard)
        clock.advance(12 * 3600)
        shown = (await timed_sim.client.messages(person))[-1]
        assert shown.id == message.message_id
        await timed_sim.client.press(person, shown, "b")
        assert (await bot.get_webhook_info()).pending_update_count == 2
        clock.advance(151)
        assert [bool(update.message) for update in await bot.get_updates()] == [True]
        clock.advance(12 * 3600)
        assert await bot.get_updates() == ()
