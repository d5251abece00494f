"""`parse_mode=MarkdownV2` and the older `Markdown`: https://core.telegram.org/bots/api#markdownv2-style."""

import re
from dataclasses import dataclass, field

from bot.standins.telegram.entities import utf16_length
from bot.standins.telegram.errors import ApiError, bad_request
from bot.standins.telegram.state import Json

_RESERVED = frozenset("_*[]()~`>#+-=|{}.!")
_MARKS = {"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler"}
_LEGACY = re.compile(
    r"\\(?P<escaped>[_*`\[])"
    r"|```(?:(?P<language>\w+)\n)?(?P<pre>.+?)```"
    r"|`(?P<code>[^`]+)`"
    r"|\*(?P<bold>[^*]+)\*"
    r"|_(?P<italic>[^_]+)_"
    r"|\[(?P<label>[^\]]+)\]\((?P<url>[^)\s]+)\)"
    r"|(?P<stray>[_*`])",
    re.DOTALL,
)


def parse_markdown(source: str) -> tuple[str, list[Json]]:
    """Plain text and entities of the older style; raises ApiError 400 for a mark without its end."""
    text, entities, position = "", [], 0
    for match in _LEGACY.finditer(source):
        text += source[position : match.start()]
        position = match.end()
        if match["stray"]:
            raise _unclosed("the entity", len(source[: match.start()].encode()))
        if match["escaped"]:
            text += match["escaped"]
            continue
        kind = next(name for name in ("pre", "code", "bold", "italic", "label") if match[name] is not None)
        entity: Json = {"offset": utf16_length(text), "length": utf16_length(match[kind]), "type": kind}
        if kind == "label":
            entity |= {"type": "text_link", "url": match["url"]}
        if match["language"]:
            entity["language"] = match["language"]
        text += match[kind]
        entities.append(entity)
    return text + source[position:], entities


def parse_markdown_v2(source: str) -> tuple[str, list[Json]]:
    """Plain text and entities; raises ApiError 400 for an unescaped reserved character or an open entity."""
    return _Parser(source).parse()


@dataclass
class _Parser:
    source: str
    position: int = 0
    text: str = ""
    entities: list[Json] = field(default_factory=list)
    #: (mark, start in UTF-16 units, byte offset)
    open: list[tuple[str, int, int]] = field(default_factory=list)
    quote_start: int | None = None

    def parse(self) -> tuple[str, list[Json]]:
        while self.position < len(self.source):
            self._step()
        if self.open:
            mark, _, at = self.open[-1]
            raise _unclosed(_MARKS.get(mark, "TextUrl").capitalize(), at)
        self._end_quote()
        return self.text, sorted(self.entities, key=lambda entity: (entity["offset"], -entity["length"]))

    def _step(self) -> None:
        source, here = self.source, self.position
        character = source[here]
        line_start = here == 0 or source[here - 1] == "\n"
        if line_start and self.quote_start is not None and character != ">":
            self._end_quote()
        if character == "\\" and here + 1 < len(source) and 0 < ord(source[here + 1]) < 127:
            self._plain(source[here + 1], 2)
        elif character == ">" and line_start:
            self.quote_start = utf16_length(self.text) if self.quote_start is None else self.quote_start
            self.position += 1
        elif source.startswith("**>", here) and line_start:
            self.position += 2
        elif character == "`":
            self._code()
        elif character == "[" or source.startswith("![", here):
            self.open.append(("[", utf16_length(self.text), self._byte()))
            self.position += 2 if character == "!" else 1
        elif character == "]" and self.open and self.open[-1][0] == "[":
            self._link()
        elif mark := next((mark for mark in ("||", "__", "*", "_", "~") if source.startswith(mark, here)), None):
            self._mark(mark)
        elif character in _RESERVED:
            raise _refusal(f"Character '{character}' is reserved and must be escaped with the preceding '\\'")
        else:
            self._plain(character, 1)

    def _plain(self, character: str, consumed: int) -> None:
        self.text += character
        self.position += consumed

    def _mark(self, mark: str) -> None:
        # "__" may also be the end of one italic inside another mark; Telegram reads it as underline first.
        if mark == "__" and self.open and self.open[-1][0] == "_":
            mark = "_"
        at = self._byte()
        self.position += len(mark)
        if self.open and self.open[-1][0] == mark:
            _, start, _ = self.open.pop()
            self._add(_MARKS[mark], start)
        else:
            self.open.append((mark, utf16_length(self.text), at))

    def _code(self) -> None:
        fence = "```" if self.source.startswith("```", self.position) else "`"
        at = self._byte()
        body_start = self.position + len(fence)
        end = body_start
        while not self.source.startswith(fence, end):
            if end >= len(self.source):
                raise _unclosed("Pre" if fence == "```" else "Code", at)
            end += 2 if self.source[end] == "\\" else 1
        body = re.sub(r"\\([\x01-\x7e])", r"\1", self.source[body_start:end])
        extra: Json = {}
        if fence == "```" and (match := re.match(r"([\w+#.-]*)\n", body)):
            body = body[match.end() :]
            extra = {"language": match[1]} if match[1] else {}
        start = utf16_length(self.text)
        self.text += body
        self._add("pre" if fence == "```" else "code", start, **extra)
        self.position = end + len(fence)

    def _link(self) -> None:
        _, start, at = self.open.pop()
        match = re.compile(r"\]\(((?:\\.|[^)\\])*)\)").match(self.source, self.position)
        if match is None:
            raise _unclosed("a URL", at)
        url = re.sub(r"\\(.)", r"\1", match[1])
        self.position = match.end()
        self._add("text_link", start, url=url)

    def _end_quote(self) -> None:
        if self.quote_start is not None:
            self._add("blockquote", self.quote_start)
            self.quote_start = None

    def _add(self, kind: str, start: int, **extra: str) -> None:
        length = utf16_length(self.text) - start
        if length:
            self.entities.append({"offset": start, "length": length, "type": kind, **extra})

    def _byte(self) -> int:
        return len(self.source[: self.position].encode())


def _unclosed(what: str, at: int) -> ApiError:
    return _refusal(f"Can't find end of {what} entity at byte offset {at}")


def _refusal(reason: str) -> ApiError:
    return bad_request(f"can't parse entities: {reason}")
