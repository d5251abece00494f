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

    def reply(self, number: int) -> str:
        """What the lines of the account call a reply."""
        return f"{self.person}: the reply to {text_of(number)}"


@dataclass
class Account:
    """What is wrong in the chats, one line each; all lists but the last two must be empty."""

    messages: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    #: Replies that say themselves that they may be a repeat.
    marked: list[str] = field(default_factory=list)
    #: Replies that a gateway did not send again after it was killed while it sent them, and told the person so.
    unconfirmed: list[str] = field(default_factory=list)


def text_of(number: int) -> str:
    """What a person writes."""
    return f"n.{number}"


def settle(chats: Iterable[Chat]) -> Account:
    """Count."""
    account = Account()
    for chat in chats:
        _count(chat, account)
    return account


def _count(chat: Chat, account: Account) -> None:
    replies: dict[int, int] = {}
    excused: set[int] = set()
    newest, told = -1, False
    for text in chat.shown:
        found = _REPLY.fullmatch(text)
        if found is None:
            told = told or text.startswith(_UNCONFIRMED)
            continue
        number = int(found[1])
        if told:
            # It is said before the next reply, and is about the last one before that.
            excused |= set([sent for sent in chat.sent if newest < sent < number][-1:])
            told = False
        if number not in replies and number < newest:
            account.out_of_order.append(f"{chat.reply(number)} came after that to {text_of(newest)}")
        replies.setdefault(number, 0)
        if found["mark"]:
            account.marked.append(chat.reply(number))
        else:
            replies[number] += 1
            if replies[number] > 1:
                account.duplicated.append(chat.reply(number))
        newest = max(newest, number)
    missing = [number for number in chat.sent if number not in replies]
    account.messages += len(chat.sent)
    account.unconfirmed += [chat.reply(number) for number in missing if number in excused]
    account.lost += [chat.reply(number) for number in missing if number not in excused]
