"""`parse_mode=HTML`: the tags of https://core.telegram.org/bots/api#html-style."""

import html
import re

from bot.standins.telegram.entities import utf16_length
from bot.standins.telegram.errors import ApiError, bad_request
from bot.standins.telegram.state import Json

_TYPES = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "code": "code",
    "pre": "pre",
    "blockquote": "blockquote",
    "a": "text_link",
    "span": "spoiler",
    "tg-emoji": "custom_emoji",
}
_TOKEN = re.compile(r"<(?P<close>/)?(?P<name>[a-zA-Z][\w-]*)(?P<rest>[^<>]*)>|(?P<stray><)")
_ATTRIBUTE = re.compile(r"([\w-]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")
#: The only named entities that Telegram knows; numeric ones are all taken.
_REFERENCE = re.compile(r"&(?:lt|gt|amp|quot|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")


def parse_html(source: str) -> tuple[str, list[Json]]:
    """Plain text and entities.

    Raises ApiError 400 "can't parse entities" for a tag that is unknown, unclosed or closed out of turn.
    """
    text, entities = "", []
    open_tags: list[tuple[str, int, dict[str, str]]] = []
    position = 0
    for token in _TOKEN.finditer(source):
        text += _unescape(source[position : token.start()])
        position = token.end()
        at = len(source[: token.start()].encode())
        if token["stray"]:
            raise _refusal(f'Unsupported start tag "" at byte offset {at}')
        name = token["name"].lower()
        if not token["close"]:
            attributes = _attributes(token["rest"])
            if name not in _TYPES or (name == "span" and attributes.get("class") != "tg-spoiler"):
                raise _refusal(f'Unsupported start tag "{name}" at byte offset {at}')
            open_tags.append((name, utf16_length(text), attributes))
            continue
        if not open_tags:
            raise _refusal(f"Unexpected end tag at byte offset {at}")
        expected, start, attributes = open_tags.pop()
        if name != expected:
            raise _refusal(f'Unmatched end tag at byte offset {at}, expected "</{expected}>", found "</{name}>"')
        length = utf16_length(text) - start
        if length:
            entities.append({"offset": start, "length": length} | _described(name, attributes, text, start))
    if open_tags:
        raise _refusal(f'Can\'t find end tag corresponding to start tag "{open_tags[-1][0]}"')
    text += _unescape(source[position:])
    return text, _nested_code_joined([entity for entity in entities if entity["type"]])


def _described(name: str, attributes: dict[str, str], text: str, start: int) -> Json:
    if name == "a":
        url = attributes.get("href") or text.encode("utf-16-le")[2 * start :].decode("utf-16-le")
        return {"type": "text_link", "url": url} if "." in url or ":" in url else {"type": None}
    if name == "code" and attributes.get("class", "").startswith("language-"):
        return {"type": "code", "language": attributes["class"].removeprefix("language-")}
    if name == "blockquote" and "expandable" in attributes:
        return {"type": "expandable_blockquote"}
    if name == "tg-emoji":
        return {"type": "custom_emoji", "custom_emoji_id": attributes.get("emoji-id", "")}
    return {"type": _TYPES[name]}


def _nested_code_joined(entities: list[Json]) -> list[Json]:
    """`<pre><code class="language-…">` is one `pre` with a language; a language on a lone `code` is dropped."""
    pres = {(entity["offset"], entity["length"]): entity for entity in entities if entity["type"] == "pre"}
    kept = []
    for entity in entities:
        if entity["type"] == "code":
            language = entity.pop("language", None)
            outer = pres.get((entity["offset"], entity["length"]))
            if outer is not None:
                outer |= {"language": language} if language else {}
                continue
        kept.append(entity)
    return sorted(kept, key=lambda entity: (entity["offset"], -entity["length"]))


def _attributes(rest: str) -> dict[str, str]:
    return {
        match[1].lower(): html.unescape(next((value for value in match.groups()[1:] if value is not None), ""))
        for match in _ATTRIBUTE.finditer(rest)
    }


def _unescape(text: str) -> str:
    return _REFERENCE.sub(lambda match: html.unescape(match.group()), text)


def _refusal(reason: str) -> ApiError:
    return bad_request(f"can't parse entities: {reason}")
