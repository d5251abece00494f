"""What Zaki itself says in a chat: committed to the outbox with whatever made it say so."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import callbacks
from bot.front.callbacks import Press
from bot.front.context import FrontContext
from bot.front.outbox import BotCall, Outbox


@dataclass(frozen=True)
class Button:
    """A button below a message."""

    text: str
    press: Press


Buttons = Sequence[Sequence[Button]]
#: A message id of Telegram's, or the outbox row of a message that may not be sent yet.
MessageRef = int | dict[str, int]


def escape(text: str) -> str:
    """A person's words, safe inside Telegram's HTML."""
    return html.escape(text, quote=False)


class Talk:
    """Messages in Telegram's HTML, for the caller's transaction; they go out once it is committed."""

    def __init__(self, context: FrontContext, outbox: Outbox) -> None:
        self._key = context.key
        self._outbox = outbox

    async def say(
        self, session: AsyncSession, chat_id: int, text: str, buttons: Buttons = (), *, silent: bool = False
    ) -> int:
        """A new message; returns its outbox row. `silent`: the person's phone makes no sound for it."""
        markup = self._keyboard(chat_id, buttons) if buttons else None
        return await self._send(session, chat_id, text, markup, silent=silent)

    async def ask(self, session: AsyncSession, chat_id: int, question: str, placeholder: str) -> int:
        """A question that the person's app opens a reply to."""
        markup = {"force_reply": True, "input_field_placeholder": placeholder}
        return await self._send(session, chat_id, escape(question), markup)

    async def edit(
        self, session: AsyncSession, chat_id: int, message: MessageRef, text: str, buttons: Buttons = ()
    ) -> None:
        """Other words, and other buttons or none, for a message of ours."""
        params = {**self._words(chat_id, text), "message_id": message}
        params["reply_markup"] = self._keyboard(chat_id, buttons)
        await self._outbox.enqueue(session, BotCall("editMessageText", params, chat_id))

    async def remove(self, session: AsyncSession, chat_id: int, message: MessageRef) -> None:
        """Take a message of ours back."""
        params = {"chat_id": chat_id, "message_id": message}
        await self._outbox.enqueue(session, BotCall("deleteMessage", params, chat_id))

    async def _send(
        self, session: AsyncSession, chat_id: int, text: str, markup: dict[str, Any] | None, *, silent: bool = False
    ) -> int:
        params = self._words(chat_id, text)
        if silent:
            params["disable_notification"] = True
        if markup is not None:
            params["reply_markup"] = markup
        return await self._outbox.enqueue(session, BotCall("sendMessage", params, chat_id))

    def _words(self, chat_id: int, text: str) -> dict[str, Any]:
        return {
            "chat_id": chat_id,
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": True},
        }

    def _keyboard(self, chat_id: int, buttons: Buttons) -> dict[str, Any]:
        rows = [
            [{"text": button.text, "callback_data": callbacks.sign(self._key, chat_id, button.press)} for button in row]
            for row in buttons
        ]
        return {"inline_keyboard": rows}
