"""The echo model inside a process, behind the HTTP client that a real provider is called with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from bot.standins.model.completions import complete, failed, listed


class _Stream(httpx.AsyncByteStream):
    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body


class EchoTransport(httpx.AsyncBaseTransport):
    """Answers each request in the process, piece by piece; httpx's own ASGI transport waits for the whole answer."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the echo model's app does."""
        if request.method == "POST" and request.url.path.endswith("/chat/completions"):
            answer = complete(await request.aread())
        elif request.method == "GET" and request.url.path.endswith("/models"):
            answer = listed()
        else:
            answer = failed(404, f"The echo model does not serve {request.url.path}.")
        return httpx.Response(
            answer.status, headers={"Content-Type": answer.content_type}, stream=_Stream(answer.body), request=request
        )
