"""What the echo model can do: each skill shows or tests one thing of a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.standins.model.envelope import Asked

#: Seconds between the pieces of an answer that is meant to be watched.
SLOWLY = 0.5
_LONGEST_WAIT = 120


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model asks for; `arguments` is JSON as the model writes it."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Failure:
    """An error as a provider would answer it."""

    status: int
    message: str


@dataclass(frozen=True)
class Reply:
    """An answer, in the pieces that a stream brings it in."""

    pieces: Sequence[str] = ()
    #: Seconds before the first piece, and between pieces.
    wait: float = 0.0
    pause: float = 0.0
    tool: ToolCall | None = None
    failure: Failure | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


def reply_to(asked: Asked) -> Reply:
    """Choose the answer."""
    if asked.tool_results:
        return _say("The tool answered: " + _shortened(asked.tool_results[-1], 1500))
    if asked.new_session:
        return _say("Hello! This is a new conversation. Write `help` to see what I can do.")
    if asked.silence is not None:
        return Reply(pieces=(asked.silence,))
    for pattern, answer in _SKILLS:
        match = pattern.match(asked.words)
        if match:
            return answer(asked, match)
    return _say(f"It is time: {asked.words}") if asked.scheduled else _echo(asked)


def _echo(asked: Asked) -> Reply:
    seen = ""
    if asked.pictures:
        seen = f"I see {asked.pictures} picture{'s' if asked.pictures > 1 else ''}."
    said = f"You wrote: {asked.words}" if asked.words else ""
    return _say(" ".join(part for part in (seen, said) if part) or "You wrote nothing.")


def _help(_asked: Asked, _match: re.Match[str]) -> Reply:
    return _say(
        "I am the echo model: I have no intelligence and answer with what you wrote. Besides that:\n"
        "- `count to 5` counts slowly, so that you see a message grow\n"
        "- `wait 10` is silent for 10 seconds, then answers\n"
        "- `long` writes more than fits into one Telegram message\n"
        "- `formatting` shows bold text, code and a list\n"
        "- `time` says what time it is\n"
        "- `what did I say` repeats your words before these\n"
        '- `tool: ls {"path": "."}` uses one of the assistant\'s tools\n'
        "- `error 400` fails as a provider would; after `error 500` the assistant tries again for minutes"
    )


def _count(_asked: Asked, match: re.Match[str]) -> Reply:
    last = min(int(match[1]), 50)
    numbers = [f" {number}" for number in range(1, last + 1)]
    # OpenClaw shows nothing of a message before its first 30 characters.
    return Reply(pieces=["Watch this message grow while I count:", *numbers], pause=SLOWLY)


def _wait(_asked: Asked, match: re.Match[str]) -> Reply:
    seconds = min(int(match[1]), _LONGEST_WAIT)
    return Reply(pieces=_words(f"I waited {seconds} seconds."), wait=float(seconds))


def _long(_asked: Asked, match: re.Match[str]) -> Reply:
    sentences = min(int(match[1] or 120), 1000)
    return _say(
        "\n".join(
            f"Sentence {n} of {sentences}: the echo model has a lot to say today." for n in range(1, sentences + 1)
        )
    )


def _formatting(_asked: Asked, _match: re.Match[str]) -> Reply:
    return _say(
        "**Bold**, *italic*, ~~gone~~, `code`, [a link](https://example.org), and <b>no tag</b> & no entity:\n\n"
        "1. first\n2. second\n\n> a quotation\n\n```python\nprint('hello')\n```"
    )


def _time(_asked: Asked, _match: re.Match[str]) -> Reply:
    return _say(f"It is {datetime.now(UTC):%H:%M} UTC on {datetime.now(UTC):%A, %d %B %Y}.")


def _before(asked: Asked, _match: re.Match[str]) -> Reply:
    return _say(f"Before this you wrote: {asked.before[-1]}" if asked.before else "These are your first words to me.")


def _error(_asked: Asked, match: re.Match[str]) -> Reply:
    status = int(match[1] or 400)
    if not 400 <= status <= 599:
        return _say("Give a status from 400 to 599.")
    return Reply(failure=Failure(status, "The echo model fails because it was asked to."))


def _tool(asked: Asked, match: re.Match[str]) -> Reply:
    name, arguments = match[1], (match[2] or "{}").strip()
    try:
        fits = isinstance(json.loads(arguments), dict)
    except ValueError:
        fits = False
    if not fits:
        return _say('Give the arguments as a JSON object, for example `tool: ls {"path": "."}`.')
    if name not in asked.tools:
        return _say(f"No tool called {name} is offered to me. Offered: {', '.join(asked.tools) or 'none'}.")
    return Reply(tool=ToolCall(name, arguments))


def _say(text: str) -> Reply:
    return Reply(pieces=_words(text))


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit].rstrip() + " …"


def _skill(
    pattern: str, answer: Callable[[Asked, re.Match[str]], Reply]
) -> tuple[re.Pattern[str], Callable[..., Reply]]:
    return re.compile(rf"\s*(?:{pattern})\s*\Z", re.IGNORECASE | re.DOTALL), answer


_SKILLS = (
    _skill(r"help[?!.]?", _help),
    _skill(r"count to (\d{1,6})[.!]?", _count),
    _skill(r"wait (\d{1,6})(?: seconds?)?[.!]?", _wait),
    _skill(r"long(?: (\d{1,6}))?[.!]?", _long),
    _skill(r"formatting[.!]?", _formatting),
    _skill(r"(?:tell me the |what )?time(?: is it)?[?!.]?", _time),
    _skill(r"what did i (?:say|write)(?: before)?[?!.]?", _before),
    _skill(r"error(?: (\d{3}))?[.!]?", _error),
    _skill(r"tool: ?([A-Za-z0-9_.-]+)(?:\s+(.*))?", _tool),
)
