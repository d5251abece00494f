"""Carries out the Bot API calls of instances, each for the chat of its owner."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from bot.front import seen_files
from bot.front.botapi import files, menu
from bot.front.botapi.checks import Checked, check, owned_file_ids
from bot.front.botapi.identity import BotIdentity
from bot.front.botapi.methods import Method, Way
from bot.front.botapi.refusals import invalid
from bot.front.context import FrontContext
from bot.front.guard import CallingInstance
from bot.front.outbox import BotCall, Outbox, Upload
from bot.front.outbox.answers import DONE, provisional, refusal
from bot.store import now
from bot.store.tables import AuditEntry, User

_log = structlog.get_logger(__name__)

#: Refusals of one instance that are written down within `_AUDIT_SPAN` seconds; all are counted.
_MOST_AUDITED = 20
_AUDIT_SPAN = 600.0
_LATER = "Bad Request: Telegram cannot be asked now, try again later"
#: What an instance may ask that has nobody to speak to: each is answered here, about the bot itself.
_ABOUT_THE_BOT = frozenset({"getMe", "setWebhook", "deleteWebhook", "getWebhookInfo", "getUpdates"})


class Multiplexer:
    """Answers in Telegram's shape; Telegram's 5xx and 429 are kept from instances."""

    def __init__(self, context: FrontContext, outbox: Outbox) -> None:
        self._context = context
        self._outbox = outbox
        self._identity = BotIdentity(outbox, context.settings.state)
        self._webhooks: dict[str, str] = {}
        #: When each instance's latest were written down (monotonic seconds).
        self._audited: dict[str, deque[float]] = {}
        self._own: dict[str, Callable[[Method, CallingInstance, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            "getMe": self._get_me,
            "getFile": self._get_file,
            "setWebhook": self._set_webhook,
            "deleteWebhook": self._delete_webhook,
            "getWebhookInfo": self._get_webhook_info,
            "getUpdates": self._get_updates,
            "setMyCommands": self._set_my_commands,
            "deleteMyCommands": self._delete_my_commands,
            "getMyCommands": self._get_my_commands,
        }

    async def carry_out(
        self,
        caller: CallingInstance,
        method: Method,
        params: Mapping[str, Any],
        sent: list[Upload],
        noted: Callable[[int], None] = lambda _row: None,
    ) -> dict[str, Any]:
        """The answer to a call; raises Refused. Files that the outbox took over are taken out of `sent`.

        `noted` is told the outbox's row, as :meth:`bot.front.outbox.Outbox.post` does.
        """
        checked = check(method, params, sent, caller.telegram_id)
        if caller.rehearses and method.name not in _ABOUT_THE_BOT:
            return _unheard(method, caller, checked)
        if method.way is Way.OWN:
            if sent:
                raise invalid("no file is expected")
            return await self._own[method.name](method, caller, checked.params)
        await self._check_seen(caller, checked)
        if method.way is Way.QUEUED:
            call = self._call(method, caller, checked)
            sent.clear()
            return await self._outbox.post(call, method.wait, noted)
        if checked.files:
            raise invalid("no file is expected")
        if method.way is Way.PASSING:
            return await self._outbox.pass_by(self._call(method, caller, checked), to_chat=method.in_chat)
        return await self._ask(method, caller, checked)

    async def audit(self, caller: CallingInstance, method: str, description: str) -> None:
        """Write down what was refused, within bounds that no instance can exceed."""
        at = time.monotonic()
        written = self._audited.setdefault(caller.id, deque(maxlen=_MOST_AUDITED))
        if len(written) == _MOST_AUDITED and written[0] > at - _AUDIT_SPAN:
            return
        written.append(at)
        _log.warning("a call of an instance was refused", instance=caller.id, method=method, reason=description)
        async with self._context.database.write() as session:
            session.add(AuditEntry(at=now(), instance_id=caller.id, action=f"botapi.{method}"[:64], detail=description))

    def _call(self, method: Method, caller: CallingInstance, checked: Checked) -> BotCall:
        return BotCall(method.name, checked.params, caller.telegram_id, caller.id, tuple(checked.files))

    async def _check_seen(self, caller: CallingInstance, checked: Checked) -> None:
        if not checked.file_ids:
            return
        async with self._context.database.read() as session:
            owned_file_ids(checked.file_ids, await seen_files.seen(session, caller.telegram_id, checked.file_ids))

    async def _ask(self, method: Method, caller: CallingInstance, checked: Checked) -> dict[str, Any]:
        params = dict(checked.params)
        if "message_id" in params and isinstance(params["message_id"], int):
            params["message_id"] = await self._outbox.resolve(caller.telegram_id, params["message_id"])
        if method.name == "getUserProfilePhotos" and "user_id" not in params:
            raise invalid("user_id is empty")
        answer = await self._outbox.ask(BotCall(method.name, params, caller.telegram_id, caller.id), method.wait)
        if answer is None:
            return await self._without_telegram(method, caller)
        if seen_files.file_ids(answer):
            async with self._context.database.write() as session:
                await seen_files.remember(session, caller.telegram_id, answer)
        return answer

    async def _without_telegram(self, method: Method, caller: CallingInstance) -> dict[str, Any]:
        if method.name != "getChat":
            return refusal(400, _LATER)
        async with self._context.database.read() as session:
            user = await session.get_one(User, caller.user_id)
        names = {"first_name": user.first_name, **({"username": user.username} if user.username else {})}
        return {"ok": True, "result": {"id": caller.telegram_id, "type": "private", **names}}

    async def _get_me(self, _method: Method, _caller: CallingInstance, _params: Mapping[str, Any]) -> dict[str, Any]:
        me = await self._identity.get()
        return refusal(400, _LATER) if me is None else {"ok": True, "result": me}

    async def _get_file(self, method: Method, caller: CallingInstance, params: Mapping[str, Any]) -> dict[str, Any]:
        file_id = params.get("file_id")
        if not isinstance(file_id, str) or not file_id:
            raise invalid("file_id not specified")
        async with self._context.database.read() as session:
            owned_file_ids({file_id}, await seen_files.seen(session, caller.telegram_id, {file_id}))
        call = BotCall(method.name, {"file_id": file_id}, caller.telegram_id, caller.id)
        answer = await self._outbox.ask(call, method.wait)
        if answer is None:
            # Telegram's own words for it, which make a client try again.
            return refusal(400, "Bad Request: file is temporarily unavailable")
        return files.with_our_path(answer, self._context.key, caller.id)

    async def _set_webhook(self, _method: Method, caller: CallingInstance, params: Mapping[str, Any]) -> dict[str, Any]:
        url = params.get("url", "")
        self._webhooks[caller.id] = url[:256] if isinstance(url, str) else ""
        return {**DONE, "description": "Webhook was set"}

    async def _delete_webhook(
        self, _method: Method, caller: CallingInstance, _params: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._webhooks.pop(caller.id, None)
        return {**DONE, "description": "Webhook was deleted"}

    async def _get_webhook_info(
        self, _method: Method, caller: CallingInstance, _params: Mapping[str, Any]
    ) -> dict[str, Any]:
        url = self._webhooks.get(caller.id, "")
        return {"ok": True, "result": {"url": url, "has_custom_certificate": False, "pending_update_count": 0}}

    async def _get_updates(
        self, _method: Method, _caller: CallingInstance, _params: Mapping[str, Any]
    ) -> dict[str, Any]:
        return refusal(409, "Conflict: can't use getUpdates method while webhook is active; updates come by webhook")

    async def _set_my_commands(
        self, method: Method, caller: CallingInstance, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        commands = menu.merged(params, caller.telegram_id)
        if not menu.concerns_owner(params):
            return DONE
        return await self._outbox.post(BotCall(method.name, commands, caller.telegram_id, caller.id), method.wait)

    async def _delete_my_commands(
        self, method: Method, caller: CallingInstance, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        if not menu.concerns_owner(params):
            return DONE
        commands = menu.merged({**params, "commands": []}, caller.telegram_id)
        return await self._outbox.post(BotCall("setMyCommands", commands, caller.telegram_id, caller.id), method.wait)

    async def _get_my_commands(
        self, method: Method, caller: CallingInstance, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        if not menu.concerns_owner(params):
            return {"ok": True, "result": []}
        call = BotCall(method.name, menu.address(params, caller.telegram_id), caller.telegram_id, caller.id)
        answer = await self._outbox.ask(call, method.wait)
        if answer is None:
            return refusal(400, _LATER)
        return {"ok": True, "result": menu.theirs_alone(answer["result"])} if answer.get("ok") else answer


def _unheard(method: Method, caller: CallingInstance, checked: Checked) -> dict[str, Any]:
    """What an instance is told that has nobody to speak to: it was said, and what it asks for cannot be known."""
    if method.way in (Way.QUEUED, Way.PASSING) or method.name in ("setMyCommands", "deleteMyCommands"):
        return provisional(0, method.name, caller.telegram_id, checked.params)
    if method.name == "getChat":
        return {"ok": True, "result": {"id": caller.telegram_id, "type": "private"}}
    return refusal(400, _LATER)
