"""Turns: one update after the other becomes an answer in the chat."""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import Callable
from typing import Any

import httpx
import structlog

from bot.standins.instance.botapi import BotApi, TelegramFailed
from bot.standins.instance.brain import Brain, ModelFailed
from bot.standins.instance.config import InstanceConfig
from bot.standins.instance.spool import Spool

_log = structlog.get_logger(__name__)
_MESSAGE = 4000
_UNCONFIRMED = (
    "I couldn’t confirm whether my previous reply reached this chat, so I won’t resend it automatically. "
    "Please ask for any missing remainder."
)
_NEW_SESSION = "✅ New session started."
_FAILED = "⚠️ Something went wrong while processing your request. Please try again."


class Turns:
    """Works through the spool while it may."""

    def __init__(self, config: Callable[[], InstanceConfig], spool: Spool, http: httpx.AsyncClient) -> None:
        self._config = config
        self._spool = spool
        self._http = http
        self.brain = Brain(http)
        self._look = asyncio.Event()
        self.active = 0

    def ring(self) -> None:
        """There may be something to do."""
        self._look.set()

    async def run(self, may_run: Callable[[], bool]) -> None:
        """Work until cancelled. `may_run` is asked before each turn, and again each second while it says no."""
        while True:
            self._look.clear()
            while may_run() and (update := self._spool.next()) is not None:
                self.active += 1
                try:
                    await self._turn(update)
                except (KeyError, TypeError, AttributeError, ValueError):
                    _log.exception("an update cannot be understood", update_id=update["update_id"])
                finally:
                    self.active -= 1
                self._spool.done(update)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), 1.0)

    async def _turn(self, update: dict[str, Any]) -> None:
        config = self._config()
        api = BotApi(self._http, config.api_root, config.bot_token)
        pressed = update.get("callback_query")
        message = update.get("message")
        try:
            if isinstance(pressed, dict) and str(pressed["from"]["id"]) in config.owners:
                await api.call("answerCallbackQuery", {"callback_query_id": pressed["id"]})
            if isinstance(message, dict) and str(message.get("from", {}).get("id")) in config.owners:
                await self._reply(config, api, update, message)
        except TelegramFailed as error:
            # As OpenClaw does: the reply is lost, and nobody tries again.
            _log.warning("a reply is lost", reason=str(error))

    async def _reply(
        self, config: InstanceConfig, api: BotApi, update: dict[str, Any], message: dict[str, Any]
    ) -> None:
        chat = message["chat"]["id"]
        await api.call("sendChatAction", {"chat_id": chat, "action": "typing"})
        words = _words(message)
        if words == "/new":
            self.brain.begin_anew()
            await api.call("sendMessage", {"chat_id": chat, "text": _NEW_SESSION})
            return
        try:
            text = await self.brain.answer(config, words, message["from"])
        except ModelFailed as error:
            _log.warning("no answer from the model", reason=str(error))
            text = _FAILED
        if text in ("", "NO_REPLY"):
            return
        if self._spool.unconfirmed():
            await api.call("sendMessage", {"chat_id": chat, "text": _UNCONFIRMED})
            self._spool.confessed()
        self._spool.sending(update)
        await send_text(api, chat, text)


async def send_text(api: BotApi, chat: int | str, text: str) -> None:
    """Send a model's words, in as many messages as they need."""
    for start in range(0, len(text), _MESSAGE):
        part = html.escape(text[start : start + _MESSAGE], quote=False)
        await api.call("sendMessage", {"chat_id": chat, "text": part, "parse_mode": "HTML"})


def _words(message: dict[str, Any]) -> str:
    for kind in ("photo", "document", "voice", "audio", "video", "sticker", "location", "contact"):
        if kind in message:
            return f"{message.get('caption', '')}\n\n[{kind}]".strip()
    return str(message.get("text", ""))
