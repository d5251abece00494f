"""What an instance may say: only to its owner's chat, only what was its own, nothing that speaks for the bot.

A call is rebuilt from the fields that are known of its method. A field that is not known, as a newer Bot API may bring
one, is passed on only where its name speaks of nothing that could be abused: else a new way to decorate a message would
break the assistant's replies, and a new way to address somebody would be open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from bot.front.botapi.methods import Method
from bot.front.botapi.refusals import Refused, forbidden, invalid
from bot.front.botapi.requests import json_value
from bot.front.menu import CALLBACK_PREFIX
from bot.front.outbox.calls import map_message_ids, number_of
from bot.front.outbox.wording import LONGEST_CAPTION, LONGEST_TEXT, is_too_long
from bot.front.telegram import Upload

_log = structlog.get_logger(__name__)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Fields that hold JSON, also where they come as text.
_JSON = _words(
    """caption_entities commands entities explanation_entities link_preview_options media message_ids options
    question_entities reaction reply_markup reply_parameters rich_message scope"""
)
#: Values that name a chat or a person, at any depth.
_SOMEBODY = re.compile(
    r"(?:.*_)?(?:chat|user|chats|users|channel|peer|sender|receiver|recipient|member|from)(?:_ids?)?\Z", re.IGNORECASE
)
#: What no instance may use, at any depth: it speaks for the whole bot, reaches beyond the chat, or costs money.
_NEVER = _words(
    """business_connection_id inline_message_id inline_query_id web_app_query_id shipping_query_id
    pre_checkout_query_id guest_query_id web_app login_url pay callback_game switch_inline_query
    switch_inline_query_current_chat switch_inline_query_chosen_chat request_users request_user request_chat
    allow_paid_broadcast star_count suggested_post_parameters"""
)
#: Words in the name of an unknown field that make it one to refuse.
_SUSPECT = re.compile(
    r"chat|user|channel|business|inline|(?:^|_)(?:from|sender|receiver|recipient|peer|member|account|connection|owner"
    r"|admin|url|token|secret|webhook|certificate|query|paid|stars?|gift|price|invoice|payload|provider)(?:_|\Z)",
    re.IGNORECASE,
)
_BUTTON = frozenset({"text", "callback_data", "url", "copy_text", "style", "icon_custom_emoji_id"})
_KEY = frozenset({"text", "style", "icon_custom_emoji_id", "request_contact", "request_location", "request_poll"})
_MARKUP = _words(
    """inline_keyboard keyboard is_persistent resize_keyboard one_time_keyboard input_field_placeholder selective
    remove_keyboard force_reply"""
)
#: Where a text is a file: an id, a URL or `attach://` a part of the request.
_FILE = _words("media photo audio document video animation voice video_note sticker thumbnail thumb cover live_photo")
_ID = re.compile(r"-?[0-9]{1,19}\Z")
#: Unknown fields that were logged: each once, and not without end, as instances choose the names.
_told: set[str] = set()
_MOST_TOLD = 100
#: The Bot API promises ids that a double holds.
_LARGEST_ID = 2**53


@dataclass(frozen=True)
class Checked:
    """A call as it may be made."""

    params: dict[str, Any]
    files: list[Upload]
    #: Ids of Telegram's files that it names; they must have been seen in the chat.
    file_ids: set[str]


def check(method: Method, params: Mapping[str, Any], files: list[Upload], owner: int) -> Checked:
    """The call rebuilt for the chat of its `owner`; raises :class:`Refused`."""
    read = {name: _value(method, name, value) for name, value in params.items()}
    rebuilt = {name: value for name, value in read.items() if value is not None}
    for name in rebuilt:
        _check_field(method, name)
    _check_nested(rebuilt, owner)
    _check_lengths(rebuilt)
    rebuilt = map_message_ids(rebuilt, _message_id)
    if "reply_markup" in rebuilt:
        _check_markup(rebuilt["reply_markup"])
    if method.in_chat:
        if "chat_id" not in rebuilt:
            raise invalid("chat_id is empty")
        rebuilt["chat_id"] = owner
    return Checked(rebuilt, *_check_files(method, rebuilt, files))


def _value(method: Method, name: str, value: Any) -> Any:
    """JSON that came as text as what it says."""
    if not isinstance(value, str):
        return value
    if name in _JSON:
        return json_value(value) if value.strip() else None
    if name not in method.fields and value.lstrip()[:1] in ("{", "["):
        return json_value(value)
    return value


def _check_field(method: Method, name: str) -> None:
    if name in method.fields:
        return
    if name in _NEVER or _SOMEBODY.match(name) or _SUSPECT.search(name):
        raise forbidden(f"{method.name} with {name} is not for an assistant")
    if name not in _told and len(_told) < _MOST_TOLD:
        _told.add(name)
        _log.info("an unknown field is passed on", method=method.name, field=name)


def _check_nested(params: Mapping[str, Any], owner: int) -> None:
    for name, value in _named(params):
        if name in _NEVER:
            raise forbidden(f"{name} is not for an assistant")
        if name == "callback_data":
            _check_callback_data(value)
        elif _SOMEBODY.match(name):
            _check_somebody(name, value, owner)


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    """Each name and its value, at any depth; depth was bounded when the request was read."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_somebody(name: str, value: Any, owner: int) -> None:
    if isinstance(value, list) and value:
        for item in value:
            _check_somebody(name, item, owner)
        return
    if isinstance(value, Mapping):
        value = value.get("id")
    # Only numbers: a name such as @channel is resolved by Telegram, to whatever it is by then.
    number = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and _ID.match(value):
        number = int(value)
    if number != owner:
        raise forbidden(f"{name} is not the owner's chat")


def _check_lengths(params: Mapping[str, Any]) -> None:
    """Refuse in Telegram's words what it would refuse anyhow, before it is kept."""
    text = params.get("text")
    if isinstance(text, str) and is_too_long(text, params.get("parse_mode"), LONGEST_TEXT):
        raise invalid("message is too long")
    media = params.get("media")
    for item in (params, *(media if isinstance(media, list) else [media])):
        caption = item.get("caption") if isinstance(item, Mapping) else None
        if isinstance(caption, str) and is_too_long(caption, item.get("parse_mode"), LONGEST_CAPTION):
            raise invalid("message caption is too long")


def _message_id(value: Any) -> int:
    number = number_of(value)
    if number is None or not 0 < number < _LARGEST_ID:
        raise invalid("a message identifier is not valid")
    return number


def _check_callback_data(value: Any) -> None:
    if not isinstance(value, str):
        raise invalid("callback_data must be a string")
    if value.strip().lower().startswith(CALLBACK_PREFIX):
        raise forbidden(f"callback_data that starts with {CALLBACK_PREFIX} is not for an assistant")


def _check_markup(markup: Any) -> None:
    if not isinstance(markup, Mapping):
        raise invalid("object expected as reply markup")
    for name in markup.keys() - _MARKUP:
        raise forbidden(f"reply_markup with {name} is not for an assistant")
    for rows, allowed in (("inline_keyboard", _BUTTON), ("keyboard", _KEY)):
        for button in _buttons(markup.get(rows)):
            # A new kind of button may do anything, so none is passed on unknown.
            for name in button.keys() - allowed:
                raise forbidden(f"a button with {name} is not for an assistant")


def _buttons(rows: Any) -> Iterator[Mapping[str, Any]]:
    if rows is None:
        return
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise invalid("a keyboard is a list of rows of buttons")
    for row in rows:
        for button in row:
            if isinstance(button, Mapping):
                yield button
            elif not isinstance(button, str):
                raise invalid("a button is an object")


def _check_files(method: Method, params: Mapping[str, Any], files: list[Upload]) -> tuple[list[Upload], set[str]]:
    sent = {file.field for file in files}
    used = {name for name in sent if name in method.files}
    ids: set[str] = set()
    for name, value in _named(params):
        if name not in _FILE or not isinstance(value, str) or not value:
            continue
        if value.startswith("attach://"):
            part = value.removeprefix("attach://")
            if part not in sent:
                raise invalid(f"{name} names a file that is not in the request")
            used.add(part)
        elif not value.lower().startswith(("http://", "https://")):
            # Also a path or a file:// URL, which a Bot API server of one's own might read: never seen in a chat.
            ids.add(value)
    for name in sent - used:
        raise invalid(f"the file {name} is not used")
    return files, ids


def owned_file_ids(ids: set[str], seen: set[str]) -> None:
    """Refuse a file that never appeared in the owner's chat."""
    if ids - seen:
        raise Refused(400, "Bad Request: wrong file identifier/HTTP URL specified", audited=True)
