"""`/llm/v1/…` for instances."""

from __future__ import annotations

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from bot.credentials import instance_of_model_key
from bot.front import metrics
from bot.front.context import FrontContext
from bot.front.guard import CallingInstance, identify
from bot.front.inbox import DATABASE_ERRORS
from bot.front.models.call import Call
from bot.front.models.errors import ModelError, not_served, unavailable, unknown_key
from bot.front.models.requests import MODEL, read_body
from bot.front.models.state import ModelsState
from bot.standins.model.completions import complete

_log = structlog.get_logger(__name__)
_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def router(context: FrontContext, state: ModelsState) -> APIRouter:
    """The routes; they trust the peer's address, so serve them on the bridge's listener alone."""
    routes = APIRouter()

    @routes.api_route("/llm/v1/{path:path}", methods=_EVERY_METHOD, include_in_schema=False)
    async def serve(path: str, request: Request) -> Response:
        try:
            caller = await _caller(context, request)
            if (request.method, path) == ("POST", "chat/completions"):
                return await _chat(state, caller, request)
            if request.method == "GET" and path in ("models", f"models/{MODEL}"):
                return _models(path)
            raise not_served(path)
        except ModelError as error:
            metrics.MODEL_REQUESTS.labels(str(error.status)).inc()
            return error.response()
        except DATABASE_ERRORS:
            if context.database.trouble.reason is None:
                _log.exception("the database does not answer")
            metrics.MODEL_REQUESTS.labels("503").inc()
            return unavailable("Zaki's database does not answer; try again soon.", 5.0).response()

    return routes


async def _caller(context: FrontContext, request: Request) -> CallingInstance:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    address = request.client.host if request.client is not None else ""
    if scheme.lower() == "bearer":
        key = key.strip()
        caller = await identify(context, address, instance_of_model_key(key), key, "model_key")
        if caller is not None:
            return caller
    _log.info("model key refused", address=address)
    raise unknown_key()


async def _chat(state: ModelsState, caller: CallingInstance, request: Request) -> Response:
    state.begin(caller.id)
    held = state.room.hold(caller.id)
    call = None
    try:
        if caller.rehearses:
            # Its first turn is for nobody, so the model that costs nothing answers it, and no account is kept. Parsed,
            # it asks for the usage, by which the provisioner tells in the gateway's status that the turn came here.
            answer = complete((await state.parse(await read_body(request, held))).take_body())
            return StreamingResponse(answer.body, answer.status, media_type=answer.content_type)
        # Whoever has nothing left costs no more than this look.
        await state.ledger.check(caller)
        asked = await state.parse(await read_body(request, held))
        entry = await state.ledger.enter(caller, state.upstream.model, asked.prompt_estimate)
        call = Call(state, asked, entry, held)
    finally:
        if call is None:
            held.release()
            state.end(caller.id)
    return await call.respond(request)


def _models(path: str) -> Response:
    model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "zaki"}
    return JSONResponse(model if "/" in path else {"object": "list", "data": [model]})
