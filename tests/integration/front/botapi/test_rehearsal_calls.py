"""A member of the warm pool has nobody to speak to: whatever it says, nothing of it reaches Telegram."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update
from telegram import Bot, BotCommand, InputMediaPhoto, ReactionTypeEmoji
from telegram.error import BadRequest, Forbidden

from bot.nobody import NOBODY
from bot.store.tables import AuditEntry, Instance, SeenFile, User
from tests.integration.front.botapi.conftest import Assistant, World


async def member(world: World) -> Assistant:
    """An instance that nobody has claimed; its `owner` is who claims it later."""
    assistant = await world.assistant()
    async with world.context.database.write() as session:
        await session.execute(update(Instance).where(Instance.id == assistant.id).values(user_id=None))
    world.simulator.calls.clear()
    return assistant


def reached(world: World) -> list[str]:
    """The methods that Telegram was called with, but for who the bot is, which is asked for all."""
    return [call["method"] for call in world.simulator.calls if call["method"] != "getMe"]


async def test_it_hears_that_it_was_understood_and_telegram_hears_nothing(world: World) -> None:
    assistant = await member(world)
    async with assistant.bot() as bot:
        sent = await bot.send_message(NOBODY, "Hello, nobody")
        assert (sent.chat.id, sent.text) == (NOBODY, "Hello, nobody")
        await bot.edit_message_text("Hello again", NOBODY, sent.message_id)
        await bot.send_chat_action(NOBODY, "typing")
        await bot.set_message_reaction(NOBODY, 7, ReactionTypeEmoji("👍"))
        await bot.send_photo(NOBODY, b"not a photo")
        await bot.send_media_group(NOBODY, [InputMediaPhoto(b"one"), InputMediaPhoto(b"two")])
        await bot.delete_message(NOBODY, sent.message_id)
        await bot.set_my_commands([BotCommand("new", "Begin anew")])
        await bot.delete_my_commands()
        await bot.set_webhook("https://zaki.invalid/telegram-webhook")
    async with assistant.http() as client:
        chat = (await client.post("/getChat", json={"chat_id": NOBODY})).json()
    assert chat == {"ok": True, "result": {"id": NOBODY, "type": "private"}}
    assert reached(world) == []
    assert await world.rows() == []
    assert list(world.context.settings.state.glob("spool/*")) == []


async def test_it_is_told_who_the_bot_is(world: World) -> None:
    assistant = await member(world)
    async with assistant.bot() as bot:
        assert (await bot.get_me()).username == world.simulator.bot_user["username"]


async def ask_about_a_file(bot: Bot) -> Any:
    return await bot.get_file("AgACAgIAAxkBAAIB")


async def ask_for_a_member(bot: Bot) -> Any:
    return await bot.get_chat_member(NOBODY, NOBODY)


async def ask_for_photos(bot: Bot) -> Any:
    return await bot.get_user_profile_photos(NOBODY)


@pytest.mark.parametrize("ask", [ask_about_a_file, ask_for_a_member, ask_for_photos])
async def test_what_only_telegram_knows_it_is_not_told(world: World, ask: Any) -> None:
    assistant = await member(world)
    async with assistant.bot() as bot:
        with pytest.raises(BadRequest):
            await ask(bot)
    assert reached(world) == []
    async with world.context.database.read() as session:
        assert (await session.scalars(select(SeenFile))).all() == []


async def test_it_may_speak_to_nobody_else(world: World) -> None:
    assistant = await member(world)
    async with assistant.bot() as bot:
        with pytest.raises(Forbidden):
            await bot.send_message(assistant.owner.id, "Hello, somebody")
    assert reached(world) == []
    async with world.context.database.read() as session:
        assert [entry.instance_id for entry in await session.scalars(select(AuditEntry))] == [assistant.id]


async def test_once_it_is_claimed_it_speaks_to_its_person_alone(world: World) -> None:
    assistant = await member(world)
    async with world.context.database.write() as session:
        owner = select(User.id).where(User.telegram_id == assistant.owner.id).scalar_subquery()
        await session.execute(update(Instance).where(Instance.id == assistant.id).values(user_id=owner))
    async with assistant.bot() as bot:
        await bot.send_message(assistant.owner.id, "Hello, owner")
        with pytest.raises(Forbidden):
            await bot.send_message(NOBODY, "Hello, nobody")
    assert [message.text for message in await world.said(assistant)] == ["Hello, owner"]
