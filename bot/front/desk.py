"""Handles the updates that are for Zaki itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, TypeGuard

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import callbacks
from bot.front.announcements import AWAKE, keep_awake
from bot.front.callbacks import ForgedButton
from bot.front.commands import DELETE, Commands
from bot.front.context import FrontContext
from bot.front.inbox import Pending, settle
from bot.front.menu import COMMAND_NAMES
from bot.front.notices import Notices
from bot.front.onboarding import NAME, ZONE, Questions
from bot.front.outbox import BotCall, Outbox
from bot.front.talk import Talk
from bot.front.updates import answered_question, clean, command_of, sender_of
from bot.nudge import Topic
from bot.store.tables import InboxStatus, User, UserStatus, Wanted, Wish
from bot.users import people

_log = structlog.get_logger(__name__)

_FORGED = "This button is not for you."
_STRANGER = "There is nothing to change yet. Send me a message first."
#: Members of a private chat, as `my_chat_member` calls them.
_BLOCKING = frozenset(("kicked", "left"))


@dataclass(frozen=True)
class _Toast:
    """What the person sees for a moment after pressing a button; an alert stays until they close it."""

    query_id: str
    text: str = ""
    alert: bool = False


class Desk:
    """Answers commands and buttons, and notes who blocked the bot; each in one commit with the update's mark."""

    def __init__(self, context: FrontContext, outbox: Outbox, talk: Talk, notices: Notices) -> None:
        self._context = context
        self._outbox = outbox
        self._talk = talk
        self._questions = Questions(talk)
        self._commands = Commands(context, outbox, talk, self._questions, notices)
        #: Answers to buttons on their way: the event loop itself keeps only weak references.
        self._toasts: set[asyncio.Task[object]] = set()

    async def handle(self, row: Pending) -> None:
        """Do what the update asks for and mark it handled."""
        update = json.loads(row.body)
        async with self._context.database.write() as session:
            # First, so that it is among what goes where the answer is that all of the person goes.
            await settle(session, row, InboxStatus.HANDLED)
            toast = await self._answer(session, row, update)
        self._outbox.ring()
        self._context.nudge.ring(Topic.WISHES)
        if toast is not None:
            self._pop_up(row.telegram_id, toast)

    async def close(self) -> None:
        """Leave what is on its way."""
        for task in self._toasts:
            task.cancel()
        await asyncio.gather(*self._toasts, return_exceptions=True)

    async def _answer(self, session: AsyncSession, row: Pending, update: dict[str, Any]) -> _Toast | None:
        payload = update[row.kind]
        match row.kind:
            case "callback_query":
                return await self._press(session, row.telegram_id, payload)
            case "my_chat_member":
                await self._member(session, row.telegram_id, payload)
            case "message":
                await self._message(session, row.telegram_id, update, payload)
        return None

    async def _message(
        self, session: AsyncSession, telegram_id: int, update: dict[str, Any], message: dict[str, Any]
    ) -> None:
        command, sender = command_of(message), sender_of(update)
        if command is not None and command.name in COMMAND_NAMES and sender is not None:
            await self._commands.answer(session, sender, command)
            return
        question, user = answered_question(message), await people.find(session, telegram_id)
        if question is not None and _is_welcome(user):
            await self._questions.reply(session, user, question, clean(message["text"]))

    async def _press(self, session: AsyncSession, telegram_id: int, query: dict[str, Any]) -> _Toast:
        query_id = clean(query.get("id"))
        try:
            press = callbacks.read(self._context.key, telegram_id, query["data"])
        except ForgedButton as forged:
            _log.warning("button refused", reason=str(forged))
            return _Toast(query_id, _FORGED, alert=True)
        message_id = query["message"].get("message_id")
        user = await people.find(session, telegram_id)
        if user is None or not isinstance(message_id, int):
            return _Toast(query_id, _STRANGER, alert=True)
        if press.action == DELETE:
            await self._commands.confirm_deletion(session, user, press, message_id)
        elif press.action == AWAKE:
            text, done = await keep_awake(session, self._talk, user, message_id)
            return _Toast(query_id, text, alert=not done)
        elif press.action in (NAME, ZONE) and _is_welcome(user):
            await self._questions.press(session, user, press, message_id)
        return _Toast(query_id)

    async def _member(self, session: AsyncSession, telegram_id: int, change: dict[str, Any]) -> None:
        """Somebody blocked the bot, or let it in again."""
        user = await people.find(session, telegram_id)
        member = change.get("new_chat_member")
        if user is None or not isinstance(member, dict):
            return
        wish = await session.get(Wish, user.id)
        if member.get("status") not in _BLOCKING:
            if user.status == UserStatus.BLOCKED:
                user.status = UserStatus.ACTIVE
        elif user.status in (UserStatus.ACTIVE, UserStatus.BLOCKED):
            user.status = UserStatus.BLOCKED
            if wish is not None and wish.wanted != Wanted.ABSENT:
                await people.wish(session, user, Wanted.STOPPED)

    def _pop_up(self, telegram_id: int, toast: _Toast) -> None:
        # Without an answer the person's app shows for a while that it waits, so losing one in a crash is harmless.
        params = {"callback_query_id": toast.query_id, "text": toast.text or None, "show_alert": toast.alert or None}
        task: asyncio.Task[object] = asyncio.create_task(
            self._outbox.ask(BotCall("answerCallbackQuery", params, telegram_id))
        )
        self._toasts.add(task)
        task.add_done_callback(self._toasts.discard)


def _is_welcome(user: User | None) -> TypeGuard[User]:
    return user is not None and user.status in (UserStatus.ACTIVE, UserStatus.BLOCKED)
