"""The bot's side over HTTP: `/bot<token>/<method>` and `/file/bot<token>/<path>`."""

import hmac
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from bot.standins.telegram.errors import ApiError, bad_request, too_many_requests
from bot.standins.telegram.faults import Fault, FaultKind
from bot.standins.telegram.methods import METHODS
from bot.standins.telegram.params import Params, read_params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json

_LIMITED = ("send", "copy", "forward", "edit")
_UNLIMITED = frozenset({"sendchataction", "sendmessagedraft"})


class CutResponse(Response):
    """The connection closes before an answer is complete."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server closes a connection whose answer stays shorter than it announced.
        await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"1")]})


def bot_router(simulator: Simulator) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/bot{token}/{method}", methods=["GET", "POST"])
    async def call_method(token: str, method: str, request: Request) -> Response:
        if not _right_token(simulator, token):
            return _json(ApiError(401, "Unauthorized"))
        try:
            params = await read_params(request)
        except ApiError as error:
            return _json(error)
        except HTTPException as error:
            return _json(bad_request(str(error.detail)))
        return await _answer_with_faults(simulator, method, params)

    @router.get("/file/bot{token}/{path:path}")
    async def download(token: str, path: str) -> Response:
        if not _right_token(simulator, token):
            return _json(ApiError(401, "Unauthorized"))
        stored = simulator.files.by_path(path)
        if stored is None:
            return _json(ApiError(404, "Not Found"))
        return Response(stored.content, media_type="application/octet-stream")

    async def call_from_webhook(method: str, values: Json) -> None:
        await _answer(simulator, method, Params(values))

    simulator.webhook.call = call_from_webhook
    return router


def _right_token(simulator: Simulator, token: str) -> bool:
    return hmac.compare_digest(token.encode(), simulator.config.token.encode())


async def _answer_with_faults(simulator: Simulator, method: str, params: Params) -> Response:
    fault = simulator.faults.take(method, _chat_id(params))
    if fault is None:
        return await _answer(simulator, method, params)
    if fault.kind in {FaultKind.LATENCY, FaultKind.CUT_AFTER}:
        if fault.kind is FaultKind.LATENCY:
            await simulator.faults.pause(fault.delay)
        answer = await _answer(simulator, method, params)
        return answer if fault.kind is FaultKind.LATENCY else CutResponse()
    if fault.kind is FaultKind.HANG:
        await simulator.faults.pause(fault.delay)
    answer = _refused(fault)
    _record(simulator, method, params, None if isinstance(answer, CutResponse) else answer.status_code)
    return answer


def _refused(fault: Fault) -> Response:
    match fault.kind:
        case FaultKind.TOO_MANY_REQUESTS:
            return _json(too_many_requests(fault.retry_after))
        case FaultKind.ERROR:
            return _json(ApiError(fault.status, fault.description))
        case FaultKind.BAD_GATEWAY:
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", 502)
        case _:
            return CutResponse()


async def _answer(simulator: Simulator, method: str, params: Params) -> Response:
    try:
        result = await _carry_out(simulator, method, params)
    except ApiError as error:
        answer: Response = _json(error)
    else:
        answer = JSONResponse({"ok": True, "result": result})
    _record(simulator, method, params, answer.status_code)
    return answer


async def _carry_out(simulator: Simulator, method: str, params: Params) -> Any:
    name = method.lower()
    if name not in METHODS:
        raise ApiError(404, "Not Found")
    chat_id = _chat_id(params)
    if simulator.config.enforce_limits and chat_id and name.startswith(_LIMITED) and name not in _UNLIMITED:
        simulator.limits.count(chat_id)
    return await METHODS[name](simulator, params)


def _record(simulator: Simulator, method: str, params: Params, status: int | None) -> None:
    # Polls would push everything else out of the list.
    if method.lower() != "getupdates":
        call = {"at": simulator.clock.time(), "method": method, "params": params.values, "status": status}
        simulator.calls.append(call)


def _chat_id(params: Params) -> int | None:
    try:
        return params.integer("chat_id")
    except ApiError:
        return None


def _json(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status)
