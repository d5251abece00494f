"""What became of each message: every one wants one reply, and replies come in the order of the messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: The echo model's answer, with what the outbox adds to one whose first sending was cut off.
_REPLY = re.compile(r"You wrote: n\.(\d+)(?P<mark>\s+↻ may be a repeat)?\s*")
#: How a gateway begins that was killed while it sent a reply and says so itself.
_UNCONFIRMED = "I couldn’t confirm whether my previous reply reached this chat"


@dataclass(frozen=True)
class Chat:
    """One person's chat: the numbers that they sent, and the texts that the bot shows there, both in order."""

    person: str
    sent: Sequence[int]
    shown: Sequence[str]


@dataclass
class Account:
    """What is wrong in the chats, one line each; all lists but the last two must be empty."""

    messages: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    #: Replies that say themselves that they may be a repeat.
    marked: list[str] = field(default_factory=list)
    #: Times that a gateway said itself that it cannot know whether a reply of its own arrived.
    unconfirmed: int = 0


def text_of(number: int) -> str:
    """What a person writes."""
    return f"n.{number}"


def answered(shown: Iterable[str]) -> set[int]:
    """The numbers that have a reply."""
    return {int(found[1]) for text in shown if (found := _REPLY.fullmatch(text))}


def settle(chats: Iterable[Chat]) -> Account:
    """Count."""
    account = Account()
    for chat in chats:
        _count(chat, account)
    return account


def _count(chat: Chat, account: Account) -> None:
    replies: dict[int, int] = {}
    newest = -1
    for text in chat.shown:
        if text.startswith(_UNCONFIRMED):
            account.unconfirmed += 1
        found = _REPLY.fullmatch(text)
        if found is None:
            continue
        number = int(found[1])
        what = f"{chat.person}: the reply to {text_of(number)}"
        first = number not in replies
        replies.setdefault(number, 0)
        if found["mark"]:
            account.marked.append(what)
        else:
            replies[number] += 1
            if replies[number] > 1:
                account.duplicated.append(what)
        if first and number < newest:
            account.out_of_order.append(f"{what} came after that to {text_of(newest)}")
        newest = max(newest, number)
    account.messages += len(chat.sent)
    account.lost += [f"{chat.person}: the reply to {text_of(number)}" for number in chat.sent if number not in replies]
