"""Updates built with python-telegram-bot's types, as bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from telegram import (
    CallbackQuery,
    Chat,
    ChatMemberBanned,
    ChatMemberMember,
    ChatMemberUpdated,
    Message,
    PhotoSize,
    Update,
    User,
)

BOT = User(id=123456789, first_name="Zaki", is_bot=True, username="zaki_bot")


def person(telegram_id: int, first_name: str = "Ada", language: str | None = "de") -> User:
    """Somebody on Telegram."""
    return User(id=telegram_id, first_name=first_name, is_bot=False, language_code=language)


def private(telegram_id: int) -> Chat:
    """The chat of a person with the bot."""
    return Chat(id=telegram_id, type="private", first_name="Ada")


def text_message(update_id: int, telegram_id: int, text: str, *, reply_to: str | None = None, **fields: Any) -> bytes:
    """Something that a person wrote, perhaps as a reply to what the bot wrote."""
    at = datetime.now(UTC)
    chat = fields.pop("chat", None) or private(telegram_id)
    replied = Message(message_id=7, date=at, chat=chat, from_user=BOT, text=reply_to) if reply_to else None
    message = Message(
        message_id=update_id + 1000,
        date=at,
        chat=chat,
        from_user=person(telegram_id),
        text=text,
        reply_to_message=replied,
        **fields,
    )
    return Update(update_id, message=message).to_json().encode()


def photo_message(update_id: int, telegram_id: int, file_ids: list[str]) -> bytes:
    """A picture in several sizes."""
    sizes = [PhotoSize(file_id=file_id, file_unique_id=f"u{file_id}", width=9, height=9) for file_id in file_ids]
    message = Message(
        message_id=update_id + 1000,
        date=datetime.now(UTC),
        chat=private(telegram_id),
        from_user=person(telegram_id),
        photo=sizes,
    )
    return Update(update_id, message=message).to_json().encode()


def press(update_id: int, telegram_id: int, data: str, message_id: int = 7) -> bytes:
    """A button below a message of the bot's."""
    message = Message(message_id=message_id, date=datetime.now(UTC), chat=private(telegram_id), from_user=BOT, text="?")
    query = CallbackQuery(
        id=str(update_id), from_user=person(telegram_id), chat_instance="1", data=data, message=message
    )
    return Update(update_id, callback_query=query).to_json().encode()


def membership(update_id: int, telegram_id: int, *, blocked: bool) -> bytes:
    """A person who blocks the bot, or lets it in again."""
    member, banned = ChatMemberMember(BOT), ChatMemberBanned(BOT, until_date=datetime.fromtimestamp(0, UTC))
    change = ChatMemberUpdated(
        chat=private(telegram_id),
        from_user=person(telegram_id),
        date=datetime.now(UTC),
        old_chat_member=member if blocked else banned,
        new_chat_member=banned if blocked else member,
    )
    return Update(update_id, my_chat_member=change).to_json().encode()
