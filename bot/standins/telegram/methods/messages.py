"""Sends without a file."""

import secrets
from typing import Any

from bot.standins.telegram.entities import utf16_length
from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.outgoing import (
    MAX_TEXT,
    caption_content,
    formatted,
    known_chat,
    send,
    text_content,
    writable_chat,
)
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json

_ACTIONS = frozenset(
    {
        "typing",
        "upload_photo",
        "record_video",
        "upload_video",
        "record_voice",
        "upload_voice",
        "upload_document",
        "choose_sticker",
        "find_location",
        "record_video_note",
        "upload_video_note",
    }
)
#: What belongs to the place of a message and not to what it says.
_ENVELOPE = frozenset(
    {"message_id", "from", "chat", "date", "edit_date", "reply_to_message", "forward_origin", "quote", "reply_markup"}
)


async def send_message(simulator: Simulator, params: Params) -> Json:
    chat = writable_chat(simulator, params)
    return send(simulator, chat, params, text_content(params))


async def send_message_draft(simulator: Simulator, params: Params) -> bool:
    chat = writable_chat(simulator, params)
    if not params.integer("draft_id"):
        raise bad_request("draft_id must be non-zero")
    text, entities = formatted(params, "text", "entities")
    if utf16_length(text) > MAX_TEXT:
        raise bad_request("message is too long")
    draft = {"draft_id": params.integer("draft_id"), "text": text, "entities": entities}
    simulator.events.publish("draft", chat.id, draft=draft)
    return True


async def send_chat_action(simulator: Simulator, params: Params) -> bool:
    chat = writable_chat(simulator, params)
    action = params.text("action")
    if action not in _ACTIONS:
        raise bad_request("wrong parameter action in request")
    simulator.events.publish("action", chat.id, action=action)
    return True


async def send_location(simulator: Simulator, params: Params) -> Json:
    chat = writable_chat(simulator, params)
    try:
        location = {"latitude": float(params.text("latitude")), "longitude": float(params.text("longitude"))}
    except ValueError:
        raise bad_request("latitude and longitude must be numbers") from None
    return send(simulator, chat, params, {"location": location})


async def send_poll(simulator: Simulator, params: Params) -> Json:
    chat = writable_chat(simulator, params)
    question = params.text("question").strip()
    options = [_option_text(option) for option in params.sequence("options")]
    if not question:
        raise bad_request("poll question must be non-empty")
    if len(options) < 2:
        raise bad_request("poll must have at least 2 option")
    poll: Json = {
        "id": str(secrets.randbits(62)),
        "question": question,
        "options": [
            {"persistent_id": str(number), "text": text, "voter_count": 0} for number, text in enumerate(options)
        ],
        "total_voter_count": 0,
        "is_closed": params.flag("is_closed"),
        "is_anonymous": params.text("is_anonymous", "true").lower() == "true",
        "type": params.text("type") or "regular",
        "allows_revoting": True,
        "members_only": False,
        "allows_multiple_answers": params.flag("allows_multiple_answers"),
    }
    return send(simulator, chat, params, {"poll": poll})


async def forward_message(simulator: Simulator, params: Params) -> Json:
    chat = writable_chat(simulator, params)
    source = _source(simulator, params, "forward")
    origin = {"type": "user", "sender_user": source["from"], "date": source["date"]}
    return send(simulator, chat, params, _said(source) | {"forward_origin": origin})


async def copy_message(simulator: Simulator, params: Params) -> Json:
    chat = writable_chat(simulator, params)
    source = _source(simulator, params, "copy")
    content = _said(source)
    if "caption" in params.values and "text" not in content:
        content = {key: value for key, value in content.items() if not key.startswith("caption")}
        content |= caption_content(params)
    if "reply_markup" not in params.values and "reply_markup" in source:
        content["reply_markup"] = source["reply_markup"]
    return {"message_id": send(simulator, chat, params, content)["message_id"]}


def _option_text(option: Any) -> str:
    return str(option.get("text", "")) if isinstance(option, dict) else str(option)


def _source(simulator: Simulator, params: Params, what: str) -> Json:
    chat = known_chat(simulator, params, "from_chat_id")
    message = chat.messages.get(params.integer("message_id") or 0)
    if message is None:
        raise bad_request(f"message to {what} not found")
    return message


def _said(message: Json) -> Json:
    return {key: value for key, value in message.items() if key not in _ENVELOPE}


METHODS = {
    "sendMessage": send_message,
    "sendMessageDraft": send_message_draft,
    "sendChatAction": send_chat_action,
    "sendLocation": send_location,
    "sendPoll": send_poll,
    "forwardMessage": forward_message,
    "copyMessage": copy_message,
}
