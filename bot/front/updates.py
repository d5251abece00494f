"""Updates as bytes: read without being changed, cut out of a poll's answer, and told whose they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bot.front.menu import CALLBACK_PREFIX, COMMAND_NAMES, QUESTIONS
from bot.store.tables import Recipient

#: Every kind that there is; Telegram leaves some out unless they are asked for.
UPDATE_KINDS = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "guest_message",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
)
#: Kinds that a private assistant can do something with.
_FOR_INSTANCES = frozenset(("message", "edited_message", "message_reaction", "callback_query", "poll_answer"))

#: Seconds for which Telegram itself keeps an update.
_LIFE = 24 * 3600.0
_CALLBACK_LIFE = 150.0

_LARGEST = 2**63 - 1
_COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@[A-Za-z0-9_]+)?(?:\s+(.*))?\Z", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class NotAnUpdate(ValueError):
    """The bytes are no Update of the Bot API; the message says why."""


@dataclass(frozen=True)
class Sender:
    """A person as an update names them; texts are fit for every database."""

    telegram_id: int
    first_name: str
    username: str | None
    language: str | None


@dataclass(frozen=True)
class Command:
    """A command at the beginning of a message: its name in lower case, and what follows it."""

    name: str
    argument: str


@dataclass(frozen=True)
class Arrival:
    """An update with what must be known of it to store it."""

    update_id: int
    kind: str
    #: Whose queue it stands in; 0 where it belongs to nobody.
    telegram_id: int
    recipient: Recipient
    #: Seconds for which it is worth delivering.
    life: float
    body: bytes
    #: The parsed copy.
    update: dict[str, Any]


def read_update(body: bytes) -> Arrival:
    """Look at an update; raises :class:`NotAnUpdate`."""
    try:
        update = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAnUpdate("The body is not JSON.") from None
    if not isinstance(update, dict):
        raise NotAnUpdate("An Update is a JSON object.")
    update_id = update.get("update_id")
    if not isinstance(update_id, int) or isinstance(update_id, bool) or not 0 <= update_id <= _LARGEST:
        raise NotAnUpdate("An Update has an integer update_id.")
    kind = next((name for name, value in update.items() if name != "update_id" and isinstance(value, dict)), None)
    if kind is None:
        raise NotAnUpdate("An Update has a payload.")
    telegram_id, recipient = _address(kind, update[kind])
    life = _CALLBACK_LIFE if kind == "callback_query" else _LIFE
    return Arrival(update_id, clean(kind)[:64], telegram_id, recipient, life, body, update)


def split_updates(answer: bytes) -> list[bytes]:
    """The updates in the answer to `getUpdates`, each with its bytes as they came; raises :class:`NotAnUpdate`."""
    try:
        text = answer.decode()
        return [text[begin:end].encode() for begin, end in _items(text)]
    except (ValueError, IndexError, RecursionError):
        raise NotAnUpdate("The answer is no list of updates.") from None


def sender_of(update: dict[str, Any]) -> Sender | None:
    """Who sent it, where the update says so."""
    for payload in update.values():
        person = (payload.get("from") or payload.get("user")) if isinstance(payload, dict) else None
        if isinstance(person, dict) and _is_id(person.get("id")):
            return Sender(
                telegram_id=person["id"],
                first_name=clean(person.get("first_name"))[:64],
                username=clean(person.get("username"))[:32] or None,
                language=clean(person.get("language_code"))[:35] or None,
            )
    return None


def command_of(message: dict[str, Any]) -> Command | None:
    """The command that a message consists of."""
    text = message.get("text")
    match = _COMMAND.match(text) if isinstance(text, str) else None
    return Command(match[1].lower(), clean(match[2]).strip()) if match else None


def answered_question(message: dict[str, Any]) -> str | None:
    """The one of our questions that the message replies to."""
    replied = message.get("reply_to_message")
    if not isinstance(replied, dict) or not isinstance(message.get("text"), str):
        return None
    author, question = replied.get("from"), replied.get("text")
    ours = isinstance(author, dict) and author.get("is_bot") is True and question in QUESTIONS
    return str(question) if ours else None


def clean(value: object) -> str:
    """A text that every database takes: no NUL, no half of a surrogate pair; empty where it is no text."""
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def _address(kind: str, payload: dict[str, Any]) -> tuple[int, Recipient]:
    """Whose queue an update stands in, and who it is for."""
    person = payload.get("from") or payload.get("user")
    telegram_id = person["id"] if isinstance(person, dict) and _is_id(person.get("id")) else 0
    message = payload.get("message") if kind == "callback_query" else payload
    chat = message.get("chat") if isinstance(message, dict) else None
    private = isinstance(chat, dict) and chat.get("type") == "private" and chat.get("id") == telegram_id
    if telegram_id == 0 or not (private or kind == "poll_answer"):
        return telegram_id, Recipient.NOBODY
    if kind == "my_chat_member" or _is_ours(kind, payload):
        return telegram_id, Recipient.ZAKI
    return telegram_id, Recipient.INSTANCE if kind in _FOR_INSTANCES else Recipient.NOBODY


def _is_ours(kind: str, payload: dict[str, Any]) -> bool:
    if kind == "callback_query":
        data = payload.get("data")
        return isinstance(data, str) and data.startswith(CALLBACK_PREFIX)
    if kind not in ("message", "edited_message"):
        return False
    command = command_of(payload)
    return (command is not None and command.name in COMMAND_NAMES) or answered_question(payload) is not None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _items(text: str) -> Iterator[tuple[int, int]]:
    """Where the items of the object's `result` begin and end."""
    at = _after(text, 0, "{")
    while True:
        name, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _skip(text, _after(text, at, ":"))
        if name == "result":
            break
        _, at = _DECODER.raw_decode(text, at)
        at = _after(text, at, ",")
    at = _skip(text, _after(text, at, "["))
    more = text[at] != "]"
    while more:
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _skip(text, end)
        more = text[at] != "]"
        if more:
            at = _skip(text, _after(text, at, ","))


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _after(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at] != mark:
        raise ValueError(mark)
    return at + 1
