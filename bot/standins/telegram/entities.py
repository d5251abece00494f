"""Entities that Telegram finds by itself in plain text, with offsets in UTF-16 code units."""

import re

from bot.standins.telegram.state import Json

_PATTERNS = (
    ("url", re.compile(r"(?:https?://|\bwww\.)[^\s<>\"]+[^\s<>\".,;:!?)\]}']", re.IGNORECASE)),
    ("email", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")),
    ("bot_command", re.compile(r"(?<![\w/@.])/[a-zA-Z0-9_]{1,64}(?:@\w{3,32})?(?![\w/])")),
    ("mention", re.compile(r"(?<![\w@])@[a-zA-Z]\w{3,31}\b")),
    ("hashtag", re.compile(r"(?<!\w)#\w*[^\W\d]\w*")),
)
#: Nothing is found by itself inside these.
_OPAQUE = frozenset({"code", "pre", "text_link", "url", "email"})


def utf16_length(text: str) -> int:
    """Length as Telegram counts it."""
    return len(text.encode("utf-16-le")) // 2


def find_entities(text: str, given: list[Json]) -> list[Json]:
    """`given` together with the commands, links, mentions and hashtags in `text`, ordered by offset."""
    found = list(given)
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            offset, length = utf16_length(text[: match.start()]), utf16_length(match.group())
            if not any(_overlap(offset, length, other) for other in found if other["type"] in _OPAQUE):
                found.append({"offset": offset, "length": length, "type": kind})
    return sorted(found, key=lambda entity: (entity["offset"], -entity["length"]))


def trimmed(text: str, entities: list[Json]) -> tuple[str, list[Json]]:
    """Text and entities without the blank space around the text."""
    start = utf16_length(text) - utf16_length(text.lstrip())
    text = text.strip()
    end = utf16_length(text)
    kept = []
    for entity in entities:
        first = max(0, entity["offset"] - start)
        last = min(end, entity["offset"] - start + entity["length"])
        if last > first:
            kept.append(entity | {"offset": first, "length": last - first})
    return text, kept


def _overlap(offset: int, length: int, other: Json) -> bool:
    return bool(offset < other["offset"] + other["length"] and other["offset"] < offset + length)
