"""The public way in: Telegram's webhook."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from bot.credentials import FrontKey, same
from bot.front import metrics
from bot.front.context import FrontContext
from bot.front.inbox import Inbox, InboxUnavailable
from bot.front.updates import NotAnUpdate, read_update

WEBHOOK_PATH = "/telegram/webhook"
#: Bytes; Telegram's updates are far smaller.
LARGEST_BODY = 2**20


class _TooLarge(Exception):
    pass


def webhook_secret(key: FrontKey, token: str) -> str:
    """What Telegram shows with each update: derived, so that there is no setting to get wrong or to leak."""
    return key.sign("telegram-webhook", token)


def webhook_router(context: FrontContext, inbox: Inbox) -> APIRouter:
    """`POST /telegram/webhook`: one commit, then 200; what is no update of Telegram's leaves no trace but a count."""
    router = APIRouter()
    secret = webhook_secret(context.key, context.settings.require_token())

    @router.post(WEBHOOK_PATH, include_in_schema=False)
    async def webhook(request: Request) -> Response:
        if not same(request.headers.get("X-Telegram-Bot-Api-Secret-Token", ""), secret):
            return _refuse("unauthorized", 401)
        try:
            arrival = read_update(await _body(request))
        except _TooLarge:
            return _refuse("too_large", 413)
        except NotAnUpdate:
            return _refuse("invalid", 400)
        try:
            await inbox.store([arrival])
        except InboxUnavailable:
            # The one thing that Telegram can help with: it sends the update again.
            return Response(status_code=503)
        return Response(status_code=200)

    return router


def _refuse(result: str, status: int) -> Response:
    metrics.UPDATES.labels(result).inc()
    return Response(status_code=status)


async def _body(request: Request) -> bytes:
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > LARGEST_BODY:
        raise _TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _TooLarge
    return bytes(body)
