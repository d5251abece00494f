"""Answers in Telegram's shape that Zaki gives itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bot.front.outbox.calls import (
    DELETES,
    EDITS,
    MESSAGES_OF_A_CALL,
    makes_messages,
    makes_several,
    message_ids,
    provisional_id,
)

DONE: dict[str, Any] = {"ok": True, "result": True}
_SHOWN = ("text", "caption")


def refusal(code: int, description: str) -> dict[str, Any]:
    """An error as the Bot API writes it."""
    return {"ok": False, "error_code": code, "description": description}


def gone(method: str) -> dict[str, Any]:
    """Telegram's words for a message that is not there."""
    verb = "delete" if method in DELETES else "react" if method == "setMessageReaction" else "edit"
    return refusal(400, f"Bad Request: message to {verb} not found")


def provisional(row: int, method: str, chat_id: int, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the sender is told where Telegram has not answered yet; the message ids are provisional."""
    if method in EDITS and "message_id" in params:
        return {"ok": True, "result": _message(params["message_id"], chat_id, params)}
    if not makes_messages(method):
        return DONE
    if not makes_several(method):
        message = _message(provisional_id(row), chat_id, params)
        if method == "sendPoll":
            message["poll"] = _poll(message["message_id"], params)
        return {"ok": True, "result": message}
    items = params.get("media") or params.get("message_ids")
    return {
        "ok": True,
        "result": [
            _message(provisional_id(row, index), chat_id, item if isinstance(item, dict) else {})
            for index, item in enumerate(items[:MESSAGES_OF_A_CALL] if isinstance(items, list) else ())
        ],
    }


def recorded(
    row: int, method: str, chat_id: int, params: Mapping[str, Any], response: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the sender of a finished row is told: Telegram's refusal, or the messages with Telegram's own ids."""
    if response is not None and not response.get("ok"):
        return dict(response)
    answer = provisional(row, method, chat_id, params)
    told = answer["result"] if isinstance(answer["result"], list) else [answer["result"]]
    for message, message_id in zip(told, message_ids(response), strict=False):
        message["message_id"] = message_id
    return answer


def _message(message_id: int, chat_id: int, params: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: params[name] for name in _SHOWN if isinstance(params.get(name), str)}
    return {
        "message_id": message_id,
        "date": int(time.time()),
        "chat": {"id": chat_id, "type": "private"},
        **shown,
    }


def _poll(number: int, params: Mapping[str, Any]) -> dict[str, Any]:
    given = params.get("options")
    options = given if isinstance(given, list) else []
    texts = [option.get("text", "") if isinstance(option, dict) else str(option) for option in options]
    return {
        "id": str(number),
        "question": str(params.get("question", "")),
        "options": [{"persistent_id": str(index), "text": text, "voter_count": 0} for index, text in enumerate(texts)],
        "total_voter_count": 0,
        "is_closed": False,
        "is_anonymous": bool(params.get("is_anonymous", True)),
        "type": str(params.get("type", "regular")),
        "members_only": False,
        "allows_revoting": bool(params.get("allows_revoting", False)),
        "allows_multiple_answers": bool(params.get("allows_multiple_answers", False)),
    }
