"""Changes to what a message says: the mark on a repeat, and what is left out where Telegram refuses it."""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Mapping
from typing import Any

#: Without a character that HTML or Markdown would read as markup.
REPEAT_MARK = "↻ may be a repeat"

#: Telegram's limits in UTF-16 units, without the markup; and in bytes with it.
LONGEST_TEXT = 4096
LONGEST_CAPTION = 1024
_LONGEST_MARKUP = 2**15
_CAPTIONED = frozenset(
    {"sendPhoto", "sendDocument", "sendVideo", "sendAnimation", "sendAudio", "sendVoice", "copyMessage"}
)
_REPLY = frozenset({"reply_parameters", "reply_to_message_id", "allow_sending_without_reply"})
_REPLY_REFUSED = re.compile(r"replied (?:message )?not found|quote")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def marked_as_repeat(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The same message with the mark, where it has words and room for them."""
    marked = copy.deepcopy(dict(params))
    if method == "sendMessage":
        _append(marked, "text", LONGEST_TEXT)
    elif method in _CAPTIONED:
        _append(marked, "caption", LONGEST_CAPTION)
    elif method == "sendMediaGroup" and isinstance(marked.get("media"), list):
        first = next((item for item in marked["media"] if isinstance(item, dict)), None)
        if first is not None:
            _append(first, "caption", LONGEST_CAPTION)
    return marked


def is_too_long(text: str, parse_mode: object, longest: int) -> bool:
    """Whether Telegram would certainly refuse a text for its length."""
    if len(text.encode()) > _LONGEST_MARKUP:
        return True
    if parse_mode and str(parse_mode).lower() != "html":
        # What Markdown leaves of a text is for Telegram to say.
        return False
    return _units((html.unescape(_TAG.sub("", text)) if parse_mode else text).strip()) > longest


def without_what_was_refused(params: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same message without the markup or the reply that Telegram refused; None where that is not the reason."""
    description = str(answer.get("description", "")).lower()
    if answer.get("error_code") != 400:
        return None
    if "can't parse entities" in description and params.get("parse_mode"):
        return _plain(params)
    if _REPLY_REFUSED.search(description) and params.keys() & _REPLY:
        return {name: value for name, value in params.items() if name not in _REPLY}
    return None


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in params.items() if name != "parse_mode"}
    if str(params["parse_mode"]).lower() == "html":
        for name in ("text", "caption"):
            if isinstance(plain.get(name), str):
                plain[name] = html.unescape(_TAG.sub("", plain[name]))
    return plain


def _append(params: dict[str, Any], name: str, longest: int) -> None:
    said = str(params.get(name) or "")
    text = f"{said}\n\n{REPEAT_MARK}" if said else REPEAT_MARK
    if _units(text) <= longest:
        params[name] = text


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
