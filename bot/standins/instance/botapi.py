"""Calls of the Bot API with OpenClaw's patience: little."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

#: Seconds between tries while nobody listens; a front that is away for longer costs the call.
_REFUSED_PAUSES = (0.5, 1.0, 2.0)
#: Times that a call is sent again at once because its connection broke, though it may have been heard.
_BROKEN_TRIES = 1
_LIMITED_TRIES = 3


class TelegramFailed(Exception):
    """The Bot API did not do it; the message says why, without the token."""


class BotApi:
    """`apiRoot/bot<token>/<method>`."""

    def __init__(self, http: httpx.AsyncClient, api_root: str, token: str) -> None:
        self._http = http
        self._base = f"{api_root}/bot{token}"

    async def call(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result of a method; raises :class:`TelegramFailed`.

        A 5xx is never tried again, a 429 three times in all, a refused connection for about as long as OpenClaw does, a
        broken one once and at once.
        """
        for _ in range(_LIMITED_TRIES):
            answer = await self._post(method, params)
            if answer.status_code != 429:
                break
            await asyncio.sleep(_retry_after(answer))
        if answer.status_code >= 500:
            raise TelegramFailed(f"{method}: {answer.status_code}")
        body = answer.json()
        if body.get("ok") is not True:
            raise TelegramFailed(f"{method}: {answer.status_code} {body.get('description', '')}")
        return body["result"]

    async def _post(self, method: str, params: Mapping[str, Any]) -> httpx.Response:
        pauses, broken = list(_REFUSED_PAUSES), 0
        while True:
            try:
                return await self._http.post(f"{self._base}/{method}", json=params, timeout=60.0)
            except httpx.ConnectError:
                if not pauses:
                    raise TelegramFailed(f"{method}: connection refused") from None
                await asyncio.sleep(pauses.pop(0))
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
                if broken == _BROKEN_TRIES:
                    raise TelegramFailed(f"{method}: {type(error).__name__}") from None
                broken += 1
            except httpx.HTTPError as error:
                raise TelegramFailed(f"{method}: {type(error).__name__}") from None


def _retry_after(answer: httpx.Response) -> float:
    try:
        return float(answer.json()["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return 1.0
