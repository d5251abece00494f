"""What the bot tells Telegram of itself: where updates go, its commands, and its description."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import structlog

from bot.front.context import FrontContext
from bot.front.ingest import WEBHOOK_PATH, webhook_secret
from bot.front.menu import COMMANDS
from bot.front.telegram import TelegramApi, TelegramUnavailable
from bot.front.updates import UPDATE_KINDS

_log = structlog.get_logger(__name__)

#: Deliveries that Telegram may have under way at a time; with the default of 40 a burst queues up there.
_CONNECTIONS = 100
#: Seconds between two attempts.
_PAUSE = 5.0

_DESCRIPTION = (
    "Write, and you get a private AI assistant of your own: with its own memory, files and skills, "
    "kept apart from everybody else's. /privacy says what is stored, /delete removes it."
)
_SHORT_DESCRIPTION = "A private AI assistant of your own. Just write."
#: How each thing is asked for, the field it is in, how it is set, and what it should be.
_PROFILE: tuple[tuple[str, str | None, str, dict[str, Any]], ...] = (
    (
        "getMyCommands",
        None,
        "setMyCommands",
        {"commands": [{"command": name, "description": meaning} for name, meaning in COMMANDS]},
    ),
    ("getMyDescription", "description", "setMyDescription", {"description": _DESCRIPTION}),
    (
        "getMyShortDescription",
        "short_description",
        "setMyShortDescription",
        {"short_description": _SHORT_DESCRIPTION},
    ),
)


async def register_webhook(context: FrontContext, api: TelegramApi) -> None:
    """Have Telegram send updates to `PUBLIC_URL`; tried until it works."""
    url = f"{context.settings.public_url}{WEBHOOK_PATH}"
    params = {
        "url": url,
        "secret_token": webhook_secret(context.key, context.settings.require_token()),
        "allowed_updates": list(UPDATE_KINDS),
        "max_connections": _CONNECTIONS,
    }
    before = await _present_webhook(api)
    if before and before != url:
        _log.warning("the bot had a webhook elsewhere, which ours replaces", host=urlsplit(before).hostname)
    await _insist(api, "setWebhook", params)
    _log.info("Telegram sends updates to the webhook", url=url)


async def free_for_polling(api: TelegramApi) -> None:
    """Remove a webhook, which would keep polls from getting anything; tried until it works."""
    before = await _present_webhook(api)
    if before:
        _log.warning(
            "the bot has a webhook, and updates come either there or here; it is removed now",
            host=urlsplit(before).hostname,
        )
        await _insist(api, "deleteWebhook", {"drop_pending_updates": False})


async def describe(api: TelegramApi) -> None:
    """Set the bot's commands and descriptions where they differ: Telegram lets a bot change them seldom."""
    for ask, name, change, wanted in _PROFILE:
        try:
            present = (await api.call(ask, {})).get("result")
            if (present.get(name) if name and isinstance(present, dict) else present) == next(iter(wanted.values())):
                continue
            answer = await api.call(change, wanted)
            if not answer["ok"]:
                _log.warning("the bot's profile was not changed", method=change, reason=answer.get("description"))
        except TelegramUnavailable as error:
            _log.warning("the bot's profile was not looked at", reason=str(error))


async def _present_webhook(api: TelegramApi) -> str:
    """The URL that Telegram sends updates to; empty: none."""
    result = (await _insist(api, "getWebhookInfo", {})).get("result")
    return str(result.get("url", "")) if isinstance(result, dict) else ""


async def _insist(api: TelegramApi, method: str, params: dict[str, Any]) -> dict[str, Any]:
    while True:
        try:
            answer = await api.call(method, params)
            if answer["ok"]:
                return answer
            reason = str(answer.get("description"))
        except TelegramUnavailable as error:
            reason = str(error)
        _log.error("Telegram did not do what it was asked for; it is asked again", method=method, reason=reason)
        await asyncio.sleep(_PAUSE)
