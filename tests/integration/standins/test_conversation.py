"""python-telegram-bot, unmodified, talks to simulated people."""

from typing import Any

import pytest
from telegram import Bot, BotCommandScopeChat, InlineKeyboardButton, InlineKeyboardMarkup, ReplyKeyboardMarkup, Update
from telegram.error import BadRequest, EndPointNotFound, Forbidden, InvalidToken


async def test_a_polling_bot_answers_edits_and_takes_a_button(sim: Any, echo_bot: Any) -> None:
    person = await sim.client.new_user(first_name="Amina")
    started = await sim.client.say(person, "/start")
    greeting = await sim.client.wait_for_reply(person, after=started.id)
    assert greeting.text == "Hello"

    await sim.client.press(person, greeting, "Press me")
    pressed = await sim.client.wait_for_reply(person, predicate=lambda message: message.text == "You pressed it")
    assert (pressed.id, pressed.edited, pressed.buttons) == (greeting.id, True, ())

    said = await sim.client.say(person, "hi there")
    shouted = await sim.client.wait_for_reply(
        person, after=said.id, predicate=lambda message: message.text == "HI THERE"
    )
    assert shouted.raw["entities"] == [{"offset": 0, "length": 8, "type": "bold"}]
    assert [call.method for call in await sim.client.calls("sendChatAction")] == ["sendChatAction"]


async def test_people_do_not_see_each_other(sim: Any, echo_bot: Any) -> None:
    people = [await sim.client.new_user() for _ in range(3)]
    for person in people:
        await sim.client.say(person, f"i am {person.id}")
    for person in people:
        expected = f"I AM {person.id}"
        await sim.client.wait_for_reply(person, predicate=lambda message, text=expected: message.text == text)
        assert len(await sim.client.messages(person)) == 2


async def test_get_me_is_complete(bot: Bot) -> None:
    me = await bot.get_me()
    assert (me.id, me.is_bot, me.username, me.can_join_groups) == (1234567890, True, "zaki_demo_bot", True)


async def test_another_token_is_unauthorized(sim: Any) -> None:
    bot = sim.bot("1234567890:wrong")
    with pytest.raises(InvalidToken):
        await bot.initialize()
    await bot.shutdown()


async def test_an_unknown_method_is_not_found(bot: Bot) -> None:
    with pytest.raises(EndPointNotFound):
        await bot.do_api_request("launchRocket")


async def test_a_bot_cannot_write_first(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    with pytest.raises(BadRequest, match="Chat not found"):
        await bot.send_message(person.id, "Hello?")


async def test_a_blocked_bot_is_told_and_refused(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    await sim.client.block(person)
    update = (await bot.get_updates(timeout=5))[-1]
    assert update.my_chat_member is not None
    assert update.my_chat_member.new_chat_member.status == "kicked"
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(person.id, "Are you there?")
    await sim.client.unblock(person)
    await bot.send_message(person.id, "Welcome back")


@pytest.mark.parametrize(
    ("text", "reason"),
    [(" ", "Message text is empty"), ("🦀" * 2049, "Message is too long")],
)
async def test_texts_that_cannot_be_sent(sim: Any, bot: Bot, text: str, reason: str) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    with pytest.raises(BadRequest, match=reason):
        await bot.send_message(person.id, text)


async def test_the_longest_text_counts_in_utf16(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    assert (await bot.send_message(person.id, "🦀" * 2048)).text == "🦀" * 2048


async def test_an_edit_that_changes_nothing_is_refused(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    message = await bot.send_message(person.id, "Same")
    with pytest.raises(BadRequest, match="Message is not modified"):
        await message.edit_text("Same")
    with pytest.raises(BadRequest, match="Message to edit not found"):
        await bot.edit_message_text("Other", person.id, 1)


async def test_a_person_replies_and_edits(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    first = await sim.client.say(person, "helo")
    answer = await bot.send_message(person.id, "What?", reply_to_message_id=first.id)
    assert answer.reply_to_message is not None
    assert answer.reply_to_message.message_id == first.id
    await sim.client.say(person, "I meant hello", reply_to=answer.message_id)
    await sim.client.edit(person, first.id, "hello")
    updates = await bot.get_updates(timeout=5)
    assert updates[1].message is not None
    assert updates[1].message.reply_to_message is not None
    assert updates[1].message.reply_to_message.text == "What?"
    assert updates[2].edited_message is not None
    assert (updates[2].edited_message.text, updates[2].edited_message.edit_date is not None) == ("hello", True)


async def test_commands_and_links_are_marked_as_telegram_marks_them(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "🦀 /start@zaki_demo_bot see https://example.org, @someone #news a/b")
    (update,) = await bot.get_updates(timeout=5)
    assert update.message is not None
    found = update.message.parse_entities()
    assert [(entity.type, text) for entity, text in found.items()] == [
        ("bot_command", "/start@zaki_demo_bot"),
        ("url", "https://example.org"),
        ("mention", "@someone"),
        ("hashtag", "#news"),
    ]


async def test_commands_by_scope(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    await bot.set_my_commands([("help", "Help")])
    await bot.set_my_commands([("mine", "Only here")], scope=BotCommandScopeChat(person.id))
    assert [command.command for command in await bot.get_my_commands()] == ["help"]
    chat_commands = await bot.get_my_commands(scope=BotCommandScopeChat(person.id))
    assert [command.command for command in chat_commands] == ["mine"]
    await bot.delete_my_commands(scope=BotCommandScopeChat(person.id))
    assert await bot.get_my_commands(scope=BotCommandScopeChat(person.id)) == ()
    with pytest.raises(BadRequest, match=r"(?i)bot_command_invalid"):
        await bot.set_my_commands([("Not valid!", "x")])


async def test_profile_by_language(bot: Bot) -> None:
    await bot.set_my_description("A private assistant")
    await bot.set_my_description("Ein eigener Assistent", language_code="de")
    await bot.set_my_short_description("Short")
    await bot.set_my_name("Zaki the second")
    assert (await bot.get_my_description()).description == "A private assistant"
    assert (await bot.get_my_description("de")).description == "Ein eigener Assistent"
    assert (await bot.get_my_short_description()).short_description == "Short"
    assert (await bot.get_my_name()).name == "Zaki the second"


async def test_keyboards(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    with pytest.raises(BadRequest, match=r"(?i)button_data_invalid"):
        await bot.send_message(
            person.id, "x", reply_markup=InlineKeyboardMarkup([[InlineKeyboardButton("a", callback_data="é" * 33)]])
        )
    message = await bot.send_message(person.id, "x", reply_markup=ReplyKeyboardMarkup([["Yes", "No"]]))
    assert message.reply_markup is None


async def test_delete_copy_forward_pin_and_react(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    said = await sim.client.say(person, "keep this")
    copied = await bot.copy_message(person.id, person.id, said.id)
    forwarded = await bot.forward_message(person.id, person.id, said.id)
    assert forwarded.text == "keep this"
    assert forwarded.forward_origin is not None
    await bot.set_message_reaction(person.id, said.id, "👍")
    await bot.pin_chat_message(person.id, said.id)
    chat = await bot.get_chat(person.id)
    assert chat.pinned_message is not None
    assert chat.pinned_message.message_id == said.id
    await bot.delete_message(person.id, copied.message_id)
    messages = await sim.client.messages(person)
    assert [(message.id, message.reactions) for message in messages] == [(said.id, ("👍",)), (forwarded.message_id, ())]
    with pytest.raises(BadRequest, match="Message to delete not found"):
        await bot.delete_message(person.id, copied.message_id)


async def test_reactions_come_only_when_asked_for(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    said = await sim.client.say(person, "hello")
    await sim.client.react(person, said.id, "🔥")
    assert [update.update_id for update in await bot.get_updates(timeout=5)] == [sim.simulator.updates.last_id]
    await bot.get_updates(offset=-1, allowed_updates=Update.ALL_TYPES)
    await sim.client.react(person, said.id, None)
    reaction = (await bot.get_updates(timeout=5))[-1].message_reaction
    assert reaction is not None
    assert (len(reaction.old_reaction), reaction.new_reaction) == (1, ())


async def test_a_group(sim: Any, bot: Bot) -> None:
    amina, leo = await sim.client.new_user(), await sim.client.new_user()
    group_id = await sim.client.new_group("Friends", amina, leo)
    await sim.client.say(amina, "hello all", chat_id=group_id)
    (update,) = await bot.get_updates(timeout=5)
    assert update.effective_chat is not None
    assert (update.effective_chat.id, update.effective_chat.type) == (group_id, "group")
    assert (await bot.get_chat_member(group_id, leo.id)).status == "member"
    assert (await bot.send_message(group_id, "hello")).chat.title == "Friends"


async def test_drafts_locations_and_polls(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    assert await bot.send_message_draft(person.id, 7, "Thinking")
    assert (await bot.send_location(person.id, 52.5, 13.4)).location is not None
    poll = (await bot.send_poll(person.id, "Tea?", ["Yes", "No"])).poll
    assert poll is not None
    assert [option.text for option in poll.options] == ["Yes", "No"]
