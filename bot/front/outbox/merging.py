"""An edit of a message that was not sent yet becomes part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYBOARD = frozenset({"reply_markup"})
_TEXT = _KEYBOARD | {"text", "parse_mode", "entities", "link_preview_options"}
_CAPTION = _KEYBOARD | {"caption", "parse_mode", "caption_entities", "show_caption_above_media"}
#: What an edit replaces as a whole, by the methods of the message and of the edit.
_REPLACED: dict[tuple[str, str], frozenset[str]] = {
    ("sendMessage", "editMessageText"): _TEXT,
    ("sendMessage", "editMessageReplyMarkup"): _KEYBOARD,
    **{
        (method, "editMessageCaption"): _CAPTION
        for method in ("sendPhoto", "sendDocument", "sendVideo", "sendAnimation", "sendAudio", "sendVoice")
    },
}
#: Names the message, not what is in it.
_ADDRESS = frozenset({"chat_id", "message_id"})


def merged_edit(
    method: str, params: Mapping[str, Any], edit: str, edit_params: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The message with the edit made; None where the edit has to go to Telegram by itself."""
    replaced = _REPLACED.get((method, edit))
    if replaced is None:
        return None
    content = {name: value for name, value in edit_params.items() if name not in _ADDRESS}
    if not content.keys() <= replaced or (edit == "editMessageText" and "text" not in content):
        return None
    return {name: value for name, value in params.items() if name not in replaced} | content
