"""What in a chat is Zaki's own: its commands, its buttons and its questions; the rest is the instance's."""

from __future__ import annotations

#: Commands that Zaki answers itself, in the order of the menu, with what the menu says.
COMMANDS: tuple[tuple[str, str], ...] = (
    ("start", "What this is, your name and time zone"),
    ("help", "What you can do here"),
    ("status", "How your assistant is doing"),
    ("privacy", "What is stored about you"),
    ("delete", "Delete your assistant and your data"),
)
COMMAND_NAMES = frozenset(name for name, _ in COMMANDS)

#: Zaki's own `callback_data` begins with this; instances may not send it.
CALLBACK_PREFIX = "zk:"

#: Questions that are answered by a reply to them, word for word as Telegram gives them back.
NAME_QUESTION = "Reply to this message with the name your assistant should call you."
ZONE_QUESTION = "Reply to this message with your city or time zone, for example: Berlin, or Europe/Berlin."
QUESTIONS = frozenset((NAME_QUESTION, ZONE_QUESTION))
