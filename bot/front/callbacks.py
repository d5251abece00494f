"""Zaki's own buttons: what they say is signed for one person, so nobody else can make one."""

from __future__ import annotations

from dataclasses import dataclass

from bot.credentials import FrontKey, same
from bot.front.menu import CALLBACK_PREFIX

#: Characters of the mark: 96 bits.
_MARK = 16
#: Telegram's limit, bytes.
_LONGEST = 64


class ForgedButton(ValueError):
    """The data of a button that we did not make for this person."""


@dataclass(frozen=True)
class Press:
    """What a button of ours stands for."""

    action: str
    argument: str = ""


def sign(key: FrontKey, telegram_id: int, press: Press) -> str:
    """The `callback_data` for a button in this person's chat; raises ValueError where it gets too long."""
    said = f"{CALLBACK_PREFIX}{press.action}:{press.argument}"
    data = f"{said}:{_mark(key, telegram_id, said)}"
    if len(data.encode()) > _LONGEST:
        raise ValueError(f"The data of the button {press.action} is longer than {_LONGEST} bytes.")
    return data


def read(key: FrontKey, telegram_id: int, data: str) -> Press:
    """What the button says; raises :class:`ForgedButton`."""
    said, _, mark = data.rpartition(":")
    # Half a surrogate pair, which JSON can carry, has no bytes to sign.
    if not said.startswith(CALLBACK_PREFIX) or not said.isascii() or not mark.isascii():
        raise ForgedButton("The data is not of our form.")
    if not same(_mark(key, telegram_id, said), mark):
        raise ForgedButton("The mark does not belong to this person and button.")
    action, _, argument = said.removeprefix(CALLBACK_PREFIX).partition(":")
    return Press(action, argument)


def _mark(key: FrontKey, telegram_id: int, said: str) -> str:
    return key.sign("button", f"{telegram_id}:{said}")[:_MARK]
