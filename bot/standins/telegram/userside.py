"""What simulated people do: write, edit, press, react, block."""

from typing import Any

from bot.standins.telegram.entities import find_entities, trimmed, utf16_length
from bot.standins.telegram.media_content import described
from bot.standins.telegram.outgoing import MAX_TEXT, without_reply
from bot.standins.telegram.params import Params, Upload
from bot.standins.telegram.people import random_name, random_user_id
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Chat, Json, Person


class ImpossibleError(Exception):
    """A person cannot do this in a real messenger either; the text says why."""


class UnknownError(Exception):
    """There is no such person, chat, message or button."""


def add_person(
    simulator: Simulator,
    user_id: int | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
    username: str | None = None,
    language_code: str | None = "en",
) -> Person:
    """Make somebody, with a private chat; a name is drawn if `first_name` is None.

    Somebody with a known `user_id` is given back as they are.
    """
    if user_id is None:
        user_id = random_user_id(simulator.rng)
    elif user_id in simulator.people:
        return simulator.people[user_id]
    if first_name is None:
        first_name, last_name = random_name(simulator.rng)
    person = Person(user_id, first_name, last_name, username, language_code)
    simulator.people[person.id] = person
    simulator.chats[person.id] = Chat(person.id, [person])
    simulator.events.publish("person", person.id)
    return person


def add_group(simulator: Simulator, title: str, member_ids: list[int]) -> Chat:
    """Make a group of these people and the bot."""
    members = [person_by_id(simulator, user_id) for user_id in member_ids]
    if not members:
        raise ImpossibleError("A group needs at least one member; name one in member_ids.")
    chat = Chat(-simulator.rng.randint(10**9, 5 * 10**9), members, title, opened=True)
    simulator.chats[chat.id] = chat
    simulator.events.publish("person", chat.id)
    return chat


def person_by_id(simulator: Simulator, user_id: int) -> Person:
    if user_id not in simulator.people:
        raise UnknownError(f"Nobody here has the id {user_id}; create them with POST /sim/users.")
    return simulator.people[user_id]


def chat_by_id(simulator: Simulator, chat_id: int) -> Chat:
    if chat_id not in simulator.chats:
        raise UnknownError(f"There is no chat {chat_id}; a private chat has its person's id.")
    return simulator.chats[chat_id]


def say(
    simulator: Simulator,
    person: Person,
    text: str,
    chat: Chat | None = None,
    reply_to: int | None = None,
    entities: list[Json] | None = None,
) -> Json:
    """Send a text; the message as the bot gets it. Raises ImpossibleError if it is empty, too long, or not allowed."""
    text, entities = trimmed(text, entities or [])
    if not text:
        raise ImpossibleError("A message needs some text.")
    if utf16_length(text) > MAX_TEXT:
        raise ImpossibleError(f"A message has at most {MAX_TEXT} characters; send it in parts.")
    content: Json = {"text": text}
    if found := find_entities(text, entities):
        content["entities"] = found
    return _send(simulator, person, chat, content, reply_to)


def send_file(
    simulator: Simulator,
    person: Person,
    kind: str,
    upload: Upload,
    caption: str = "",
    chat: Chat | None = None,
    reply_to: int | None = None,
) -> Json:
    """Send a photo, document, voice or another kind of file."""
    if not upload.content:
        raise ImpossibleError("The file is empty; choose another one.")
    content = described(simulator.files.store(kind, upload), Params({"duration": 1}))
    caption, _ = trimmed(caption, [])
    if caption:
        content["caption"] = caption
        if found := find_entities(caption, []):
            content["caption_entities"] = found
    return _send(simulator, person, chat, content, reply_to)


def edit(simulator: Simulator, person: Person, message_id: int, text: str, chat: Chat | None = None) -> Json:
    """Change the text (or caption) of an own message."""
    chat = chat or simulator.chats[person.id]
    message = message_by_id(chat, message_id)
    if message["from"]["id"] != person.id:
        raise ImpossibleError("Only your own messages can be edited.")
    text, _ = trimmed(text, [])
    if not text:
        raise ImpossibleError("A message needs some text.")
    name = "text" if "text" in message else "caption"
    entities_name = "entities" if name == "text" else "caption_entities"
    edited = {key: value for key, value in message.items() if key not in {name, entities_name}}
    edited |= {"edit_date": simulator.now(), name: text}
    if found := find_entities(text, []):
        edited[entities_name] = found
    simulator.replace_message(chat, edited)
    _update(simulator, "edited_message", chat, edited)
    return edited


def press(simulator: Simulator, person: Person, message_id: int, data: str, chat: Chat | None = None) -> str:
    """Press the inline button with this `callback_data`; the query's id."""
    chat = chat or simulator.chats[person.id]
    message = message_by_id(chat, message_id)
    rows = message.get("reply_markup", {}).get("inline_keyboard", [])
    if not any(button.get("callback_data") == data for row in rows for button in row):
        raise UnknownError(f"Message {message_id} has no button with the data {data!r}.")
    query_id = simulator.callbacks.press(person.id, chat.id)
    query: Json = {
        "id": query_id,
        "from": person.as_user(),
        "message": message,
        "chat_instance": str(hash(("chat", chat.id))),
        "data": data,
    }
    simulator.updates.add("callback_query", f"callback:{person.id}", query, simulator.config.callback_lifetime)
    return query_id


def react(simulator: Simulator, person: Person, message_id: int, emoji: str | None, chat: Chat | None = None) -> None:
    """Put this emoji under a message, or take the reaction away (None)."""
    chat = chat or simulator.chats[person.id]
    message_by_id(chat, message_id)
    reactions = chat.reactions.setdefault(message_id, {})
    old = reactions.get(person.id, [])
    new = [{"type": "emoji", "emoji": emoji}] if emoji else []
    if new == old:
        return
    reactions[person.id] = new
    simulator.changed(chat, "reaction", message_id=message_id, reactions=list(reactions.values()))
    content = {
        "chat": chat.as_chat(),
        "message_id": message_id,
        "user": person.as_user(),
        "date": simulator.now(),
        "old_reaction": old,
        "new_reaction": new,
    }
    _update(simulator, "message_reaction", chat, content)


def set_blocked(simulator: Simulator, person: Person, blocked: bool) -> None:
    """Block the bot, or let it write again; the bot gets `my_chat_member`."""
    if person.blocked == blocked:
        return
    person.blocked = blocked
    chat = simulator.chats[person.id]
    member: Json = {"user": simulator.bot_user, "status": "member"}
    kicked: Json = {"user": simulator.bot_user, "status": "kicked", "until_date": 0}
    content = {
        "chat": chat.as_chat(),
        "from": person.as_user(),
        "date": simulator.now(),
        "old_chat_member": member if blocked else kicked,
        "new_chat_member": kicked if blocked else member,
    }
    simulator.changed(chat, "blocked", blocked=blocked)
    _update(simulator, "my_chat_member", chat, content)


def add_timeline_entry(simulator: Simulator, chat: Chat, at: float, stage: str, detail: Any) -> None:
    """Show in this chat's timeline that `stage` was reached `at` (seconds since the epoch)."""
    entry = {"at": at, "stage": stage, "detail": detail}
    chat.timeline.append(entry)
    simulator.changed(chat, "timeline", entry=entry)


def message_by_id(chat: Chat, message_id: int) -> Json:
    if message_id not in chat.messages:
        raise UnknownError(f"There is no message {message_id} in this chat, or it was deleted.")
    return chat.messages[message_id]


def _send(simulator: Simulator, person: Person, chat: Chat | None, content: Json, reply_to: int | None) -> Json:
    chat = chat or simulator.chats[person.id]
    if person not in chat.members:
        raise ImpossibleError(f"{person.first_name} is not in this chat.")
    if chat.is_private and person.blocked:
        raise ImpossibleError("You have blocked this bot; unblock it to write.")
    if reply_to is not None:
        content["reply_to_message"] = without_reply(message_by_id(chat, reply_to))
    chat.opened = True
    message = simulator.new_message(chat, person.as_user(), content)
    _update(simulator, "message", chat, message)
    return message


def _update(simulator: Simulator, kind: str, chat: Chat, content: Json) -> None:
    simulator.updates.add(kind, f"chat:{chat.id}", content, simulator.config.message_lifetime)
