"""Bot API calls on their way to Telegram, and how they name messages that Telegram does not know yet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.front.telegram import Upload

#: Telegram's message ids have 31 bits, so none of ours is ever one of Telegram's.
_PROVISIONAL = 1 << 40
#: An album or a forward of many makes several messages: ids for as many as Telegram allows.
MESSAGES_OF_A_CALL = 128

EDITS = frozenset(
    {
        "editMessageText",
        "editMessageCaption",
        "editMessageReplyMarkup",
        "editMessageMedia",
        "editMessageLiveLocation",
        "stopMessageLiveLocation",
    }
)
DELETES = frozenset({"deleteMessage", "deleteMessages"})
_SEVERAL = frozenset({"sendMediaGroup", "forwardMessages", "copyMessages"})


@dataclass(frozen=True)
class BotCall:
    """A call that must reach Telegram.

    In `params`, a `message_id` may be Telegram's, a provisional one, or `{"outbox": row}` for the message that an
    earlier call of the outbox makes.
    """

    method: str
    params: Mapping[str, Any]
    chat_id: int
    #: None: Zaki's own call.
    instance_id: str | None = None
    files: Sequence[Upload] = ()


def makes_messages(method: str) -> bool:
    """Whether each call shows something new, so that a second one is seen; all others can simply be repeated."""
    return method.startswith(("send", "forward", "copy"))


def counts_in_chat(method: str) -> bool:
    """Whether Telegram counts the call among those that it limits to about one a second in a chat."""
    return makes_messages(method) or method in EDITS


def makes_several(method: str) -> bool:
    """Whether the answer is a list of messages."""
    return method in _SEVERAL


def provisional_id(row: int, index: int = 0) -> int:
    """The id that stands for a message until Telegram has given its own."""
    return _PROVISIONAL + row * MESSAGES_OF_A_CALL + index


def row_of(message_id: int) -> tuple[int, int] | None:
    """The outbox row that a provisional id belongs to and the message's place in it; None for Telegram's own ids."""
    if message_id < _PROVISIONAL:
        return None
    return divmod(message_id - _PROVISIONAL, MESSAGES_OF_A_CALL)


def message_ids(response: Mapping[str, Any] | None) -> list[int]:
    """The ids of the messages that an answer of Telegram tells of."""
    result = (response or {}).get("result")
    items = result if isinstance(result, list) else [result]
    return [int(item["message_id"]) for item in items if isinstance(item, dict) and "message_id" in item]


def with_numbers(params: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which each `{"outbox": row}` is the message's provisional id."""

    def number(value: Any) -> Any:
        return provisional_id(int(value["outbox"])) if isinstance(value, dict) and "outbox" in value else value

    return map_message_ids(params, number)


def map_message_ids(params: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy with each id of a message changed; where `change` gives None, the message is no longer named."""
    mapped = copy.deepcopy(dict(params))
    for name in ("message_id", "reply_to_message_id"):
        if name in mapped:
            mapped[name] = change(mapped[name])
            if mapped[name] is None:
                del mapped[name]
    if isinstance(mapped.get("message_ids"), list):
        changed = [change(value) for value in mapped["message_ids"]]
        mapped["message_ids"] = [value for value in changed if value is not None]
    reply = mapped.get("reply_parameters")
    if isinstance(reply, dict) and "message_id" in reply:
        reply["message_id"] = change(reply["message_id"])
        if reply["message_id"] is None:
            del mapped["reply_parameters"]
    return mapped


def number_of(value: Any) -> int | None:
    """A message id as a number, whichever way it was written; None where it is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else None
