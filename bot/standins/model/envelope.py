"""What the person wrote, taken out of what OpenClaw sends to a model.

OpenClaw 2026.9.6 puts a line with the time and blocks of its own (a label that ends in its mark, then JSON) before the
person's words, a line about its runtime after the first ones, and sends its context as a last user message of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_CONTEXT_BLOCK = re.compile(
    r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>|\Z)", re.DOTALL
)
_TIME = re.compile(r"\A\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]]*\] *")
_MARK = "⟦openclaw:ctx⟧"
_MARKED_BLOCK = re.compile(
    rf"^[^\n]*{_MARK}[ \t]*\n(?:```json\n.*?\n```[ \t]*(?:\n|\Z)|(?:[^\n]+(?:\n|\Z))*)\n*", re.M | re.S
)
_RUNTIME = re.compile(r"\n*^Runtime: agent=[^\n]*\Z", re.MULTILINE)
_SCHEDULED = re.compile(r"\A\[cron:[^\]]*\]\s*(?:Recent conversation:\n(?:- [^\n]*\n)*\n)?")
#: What follows a job's own words.
_UNATTENDED = re.compile(r"\n^Current time: [^\n]*\nReference UTC: .*\Z", re.MULTILINE | re.DOTALL)
#: How a turn is tried again after the model failed.
_QUEUED = re.compile(r"^\[Queued user message from a previous active turn;[^\]]*\]\n?", re.MULTILINE)
_CONTINUE = re.compile(r"\n*^Continue the current task from the existing transcript, .*\Z", re.MULTILINE | re.DOTALL)
_NOTICE = re.compile(r"\AThis turn ended before a reply:.*\Z", re.DOTALL)

#: OpenClaw speaks, not the person: nothing is asked that an echo could answer.
_EVENTS = (
    "Continue the OpenClaw runtime event.",
    "[OpenClaw heartbeat poll]",
    "[OpenClaw exec completion]",
)
_NEW_SESSION = "A new session was started via /new or /reset"
_SILENT = re.compile(r"\b(?:reply|respond|answer)\b[^.\n]{0,80}?\b(NO_REPLY|HEARTBEAT_OK)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What a conversation asks of the model now."""

    #: The person's last words; empty where they sent only pictures.
    words: str = ""
    pictures: int = 0
    #: What the person wrote before that, oldest first.
    before: Sequence[str] = ()
    #: What tools answered since the person's last words.
    tool_results: Sequence[str] = ()
    #: The exact answer by which a prompt of OpenClaw's own lets the model stay silent.
    silence: str | None = None
    new_session: bool = False
    #: A job's time has come: the words are the job's.
    scheduled: bool = False
    #: Names of the tools that the model may call.
    tools: Sequence[str] = field(default=())


def read(body: Mapping[str, Any]) -> Asked:
    """Read a chat completion request; raises ValueError with a sentence where it is none."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise ValueError("`messages` must be a list of at least one message.")
    said: list[tuple[str, int, bool]] = []
    results: list[str] = []
    for message in messages:
        if message.get("role") == "user":
            text, pictures = _content(message.get("content"))
            if person_words(text) or pictures:
                said.append((text, pictures, _MARK in _CONTEXT_BLOCK.sub("", text)))
                results = []
        elif message.get("role") == "tool":
            results.append(_content(message.get("content"))[0])
    text, pictures, from_person = said[-1] if said else ("", 0, False)
    words = person_words(text)
    scheduled = not from_person and _SCHEDULED.match(_TIME.sub("", text.strip())) is not None
    return Asked(
        words=words,
        pictures=pictures,
        before=[person_words(earlier) for earlier, _, _ in said[:-1]],
        tool_results=results,
        silence=None if from_person or scheduled else _silence(words),
        new_session=not from_person and _NEW_SESSION in words,
        scheduled=scheduled,
        tools=_tools(body.get("tools")),
    )


def person_words(text: str) -> str:
    """A user message without OpenClaw's own lines and blocks."""
    stripped = _TIME.sub("", _CONTEXT_BLOCK.sub("", text).strip())
    stripped = _RUNTIME.sub("", _MARKED_BLOCK.sub("", stripped).strip())
    stripped, scheduled = _SCHEDULED.subn("", _TIME.sub("", stripped.strip()))
    if scheduled:
        return _UNATTENDED.sub("", stripped).strip()
    return _NOTICE.sub("", _CONTINUE.sub("", _QUEUED.sub("", stripped))).strip()


def _silence(words: str) -> str | None:
    if any(event in words for event in _EVENTS):
        return "NO_REPLY"
    match = _SILENT.search(words)
    return match[1].upper() if match else None


def _content(content: object) -> tuple[str, int]:
    """A message's text, and the number of pictures in it."""
    if isinstance(content, str):
        return content, 0
    texts: list[str] = []
    pictures = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") in ("text", "input_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") in ("image_url", "input_image"):
            pictures += 1
    return "\n".join(texts), pictures


def _tools(tools: object) -> list[str]:
    found = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            found.append(function["name"])
    return found
