"""The echo model over HTTP."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bot.standins.model.completions import Answer, complete, listed


def echo_app() -> Starlette:
    """An ASGI app that serves `/v1/chat/completions` and `/v1/models`; any key will do."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _complete, methods=["POST"]),
            Route("/v1/models", _list, methods=["GET"]),
        ]
    )


async def _complete(request: Request) -> StreamingResponse:
    return _response(complete(await request.body()))


async def _list(_request: Request) -> StreamingResponse:
    return _response(listed())


def _response(answer: Answer) -> StreamingResponse:
    return StreamingResponse(answer.body, answer.status, media_type=answer.content_type)
