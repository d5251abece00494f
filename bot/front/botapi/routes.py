"""The Bot API as instances see it: `/telegram/bot<token>/<method>` and `/telegram/file/bot<token>/<path>`."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from bot.credentials import instance_of_bot_token
from bot.front import metrics
from bot.front.botapi import requests
from bot.front.botapi.files import Download, inward
from bot.front.botapi.in_flight import TOO_MANY, InFlight
from bot.front.botapi.methods import Method, find
from bot.front.botapi.multiplexer import Multiplexer
from bot.front.botapi.refusals import Refused, forbidden
from bot.front.context import FrontContext
from bot.front.guard import CallingInstance, identify
from bot.front.outbox import Outbox
from bot.front.outbox.answers import refusal
from bot.front.telegram import TelegramApi

_log = structlog.get_logger(__name__)

#: Requests of one instance at a time; a gateway makes a handful.
_MOST_IN_FLIGHT = 64
_OTHER = "other"


def router(context: FrontContext, outbox: Outbox, api: TelegramApi) -> APIRouter:
    """The routes of the bridge's side; `outbox` must run for queued calls to reach Telegram."""
    routes = APIRouter(include_in_schema=False)
    calls = Calls(context, outbox)

    @routes.api_route("/telegram/bot{token}/{method}", methods=["GET", "POST"])
    async def call(token: str, method: str, request: Request) -> Response:
        return await calls.answer(token, method, request)

    @routes.get("/telegram/file/bot{token}/{path:path}")
    async def download(token: str, path: str, request: Request) -> Response:
        caller = await calls.caller(token, request)
        if caller is None:
            return _unauthorized("file")
        found = inward(context.key, caller.id, path)
        if found is None:
            metrics.BOTAPI_REQUESTS.labels("file", "refused").inc()
            return _respond(refusal(404, "Not Found"))
        metrics.BOTAPI_REQUESTS.labels("file", "ok").inc()
        return Download(api, found, calls.in_flight, caller.id)

    return routes


class Calls:
    """From a request to its answer."""

    def __init__(self, context: FrontContext, outbox: Outbox) -> None:
        self._context = context
        self._outbox = outbox
        self._multiplexer = Multiplexer(context, outbox)
        #: Downloads count too.
        self.in_flight = InFlight(_MOST_IN_FLIGHT)

    async def caller(self, token: str, request: Request) -> CallingInstance | None:
        """The instance whose token and address agree."""
        address = request.client.host if request.client else ""
        return await identify(self._context, address, instance_of_bot_token(token), token, "bot_token")

    async def answer(self, token: str, name: str, request: Request) -> Response:
        """The answer to a call, in Telegram's shape and with its status."""
        method = find(name)
        label = method.name if method else _OTHER
        noted: list[int] = []
        try:
            caller = await self.caller(token, request)
            if caller is None:
                return _unauthorized(label)
            if not self.in_flight.enter(caller.id):
                metrics.BOTAPI_REQUESTS.labels(label, "refused").inc()
                return _respond(refusal(400, TOO_MANY))
            try:
                answer, result = await self._carry_out(caller, method, name, request, noted)
            finally:
                self.in_flight.leave(caller.id)
        except ClientDisconnect:
            return Response(status_code=400)
        except (SQLAlchemyError, OSError) as error:
            # Without the database nothing can be kept, and to say otherwise would lose the message.
            if self._context.database.trouble.reason is None:
                _log.error("a call of an instance cannot be kept", method=label, error=type(error).__name__)
            answer, result = refusal(503, "Service Unavailable: the message cannot be kept now"), "error"
        metrics.BOTAPI_REQUESTS.labels(label, result).inc()
        response = _respond(answer)
        response.background = BackgroundTask(self._heard, noted)
        return response

    async def _heard(self, noted: list[int]) -> None:
        for row in noted:
            self._outbox.heard(row)

    async def _carry_out(
        self, caller: CallingInstance, method: Method | None, name: str, request: Request, noted: list[int]
    ) -> tuple[dict[str, Any], str]:
        sent = requests.Sent()
        try:
            if method is None:
                raise forbidden(f"{_printable(name)} is not for an assistant")
            sent = await requests.read(request, self._outbox.spool, caller.id, method.largest)
            answer = await self._multiplexer.carry_out(caller, method, sent.params, sent.files, noted.append)
        except Refused as refused:
            if refused.audited:
                await self._multiplexer.audit(caller, method.name if method else _OTHER, refused.description)
            return refusal(refused.code, refused.description), "refused"
        finally:
            self._outbox.spool.discard([file.path for file in sent.files])
        return answer, "ok" if answer.get("ok") else "error"


def _respond(answer: dict[str, Any]) -> JSONResponse:
    return JSONResponse(answer, 200 if answer.get("ok") else int(answer.get("error_code", 400)))


def _unauthorized(label: str) -> JSONResponse:
    metrics.BOTAPI_REQUESTS.labels(label, "unauthorized").inc()
    return _respond(refusal(401, "Unauthorized"))


def _printable(name: str) -> str:
    return "".join(char for char in name[:64] if char.isascii() and char.isalnum()) or "this method"
