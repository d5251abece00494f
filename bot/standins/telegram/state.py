"""The people, chats and messages that a simulator holds, in memory."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Person:
    """A simulated user, with a private chat to the bot."""

    id: int
    first_name: str
    last_name: str | None = None
    username: str | None = None
    language_code: str | None = "en"
    #: Whether this person has blocked the bot.
    blocked: bool = False

    def as_user(self) -> Json:
        """The Bot API's `User`."""
        user: Json = {"id": self.id, "is_bot": False, "first_name": self.first_name}
        for key in ("last_name", "username", "language_code"):
            if (value := getattr(self, key)) is not None:
                user[key] = value
        return user


@dataclass
class Chat:
    """A private chat (its id is the person's) or a group (a negative id)."""

    id: int
    members: list[Person]
    #: None for a private chat.
    title: str | None = None
    #: Whether somebody has written here; a bot cannot write first.
    opened: bool = False
    #: By message id, in the order sent; each is the Bot API's `Message`.
    messages: dict[int, Json] = field(default_factory=dict)
    #: By message id, then by who reacted: the Bot API's list of `ReactionType`.
    reactions: dict[int, dict[int, list[Json]]] = field(default_factory=dict)
    timeline: list[Json] = field(default_factory=list)
    pinned: list[int] = field(default_factory=list)
    #: The bot's latest reply keyboard, None if it was removed.
    reply_keyboard: Json | None = None
    #: Grows with every change that a reader of this chat can see.
    version: int = 0

    @property
    def is_private(self) -> bool:
        return self.title is None

    def as_chat(self) -> Json:
        """The Bot API's `Chat`."""
        if self.title is not None:
            return {"id": self.id, "type": "group", "title": self.title, "all_members_are_administrators": True}
        chat = self.members[0].as_user()
        del chat["is_bot"]
        chat.pop("language_code", None)
        return chat | {"type": "private"}


@dataclass
class Profile:
    """What the bot has told Telegram about itself; texts and commands are kept by language (`""` is the default)."""

    names: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    short_descriptions: dict[str, str] = field(default_factory=dict)
    #: By scope (as `commands.scope_key` writes it) and language.
    commands: dict[tuple[str, str], list[Json]] = field(default_factory=dict)
    #: By chat id; None is the default for all.
    menu_buttons: dict[int | None, Json] = field(default_factory=dict)
