"""Calls of the Bot API with OpenClaw's patience, which is little, behind the relay that every instance has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

#: Seconds for which, and between which, a call is made again that a front did not answer (infra/send_again.mjs).
_RELAYED_WITHIN = 55.0
_RELAY_PAUSE = 0.25
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

        A 5xx of Telegram is never tried again, a 429 three times in all, and a front that is away is waited for.
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
        until = time.monotonic() + _RELAYED_WITHIN
        while True:
            try:
                answer = await self._http.post(f"{self._base}/{method}", json=params, timeout=60.0)
                if answer.status_code != 503 or time.monotonic() > until:
                    return answer
            except httpx.HTTPError as error:
                if time.monotonic() > until:
                    raise TelegramFailed(f"{method}: {type(error).__name__}") from None
            await asyncio.sleep(_RELAY_PAUSE)


def _retry_after(answer: httpx.Response) -> float:
    try:
        return float(answer.json()["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return 1.0
