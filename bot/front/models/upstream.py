"""The provider that the operator chose, or the echo model in this process."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import structlog

from bot.front.models.errors import ModelError, operator_refused, provider_failed, unavailable
from bot.front.models.requests import ChatRequest
from bot.settings import Settings
from bot.standins.model import EchoTransport

_log = structlog.get_logger(__name__)

#: Seconds. Reasoning models may be silent for minutes before their first word.
_TIMEOUT = httpx.Timeout(connect=10.0, read=300.0, write=60.0, pool=10.0)
#: Statuses by which a provider, or a proxy before it, says that it is down for everybody. 500 is not among them: a
#: single odd request can cause it, and one instance must not stop the others.
_DOWN = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})
#: What else in a provider's message is the operator's own: keys, organisations, projects.
_PRIVATE = re.compile(r"\b(?:sk|org|proj|user)[-_][A-Za-z0-9_*.-]{5,}[A-Za-z0-9_*]")
_ERROR_BYTES = 65_536


@dataclass(frozen=True)
class Refusal:
    """An answer of the provider that is no success."""

    #: What the instance is told.
    error: ModelError
    #: No instance can be served now, whatever it asks.
    concerns_all: bool


class Upstream:
    """Calls the provider with the operator's key, and keeps that key out of every answer."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self.model = settings.model or "echo"
        self._key = settings.model_key.get_secret_value() if settings.model_key is not None else ""
        self._echo = httpx.AsyncClient(transport=EchoTransport()) if settings.model_url is None else None
        self._http = self._echo or http
        self._url = (settings.model_url or "http://echo.invalid/v1") + "/chat/completions"

    async def close(self) -> None:
        """Close what is not shared."""
        if self._echo is not None:
            await self._echo.aclose()

    async def post(self, asked: ChatRequest) -> httpx.Response:
        """Send a request; the answer's body is not read yet and its reader closes it.

        Raises httpx's errors where the provider does not answer.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if asked.stream else "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "zaki",
            "Content-Length": str(len(asked.body)),
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = httpx.Request(
            "POST",
            self._url,
            content=_once(asked),
            headers=headers,
            extensions={"timeout": _TIMEOUT.as_dict()},
        )
        return await self._http.send(request, stream=True, follow_redirects=False)

    async def refusal(self, answer: httpx.Response) -> Refusal:
        """Judge an answer that is no success; reads the body."""
        status = answer.status_code
        told = _error_in(await self._start_of_body(answer))
        no_credit = status == 402 or "insufficient_quota" in (told.get("code"), told.get("type"))
        if status in (401, 403) or no_credit:
            _log.error("the provider refuses the operator; check ZAKI_MODEL_KEY and its credit", status=status)
            # A 403 can also mean that it refused the contents of this one request.
            return Refusal(operator_refused(no_credit), concerns_all=status != 403)
        retry_after = answer.headers.get("retry-after", "")
        if status in _DOWN:
            seconds = float(retry_after) if retry_after.isdigit() else 5.0
            down = f"The model's provider is down (it answered {status}); try again soon."
            return Refusal(unavailable(down, seconds), concerns_all=True)
        if not 400 <= status <= 599:
            odd = f"The model's provider answered {status}, which is neither an answer nor an error."
            return Refusal(provider_failed(odd), concerns_all=False)
        message = told.get("message")
        error = ModelError(
            status,
            self.scrub_text(message) if isinstance(message, str) and message else f"The provider answered {status}.",
            kind=self._word(told.get("type")) or ("server_error" if status >= 500 else "invalid_request_error"),
            code=self._word(told.get("code")),
            param=self._word(told.get("param")),
            headers={"Retry-After": retry_after} if retry_after.isdigit() else {},
        )
        return Refusal(error, concerns_all=False)

    def no_answer(self, error: Exception) -> ModelError:
        """What the instance is told where the provider did not answer."""
        _log.warning("the model's provider does not answer", kind=type(error).__name__)
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        return unavailable(f"The model's provider {what}; try again soon.", 5.0)

    def scrub(self, data: bytes) -> bytes:
        """The bytes without the operator's key."""
        return data.replace(self._key.encode(), b"[key]") if self._key else data

    def scrub_text(self, text: str) -> str:
        """A provider's sentence without anything of the operator's own."""
        return _PRIVATE.sub("[private]", text.replace(self._key, "[key]") if self._key else text)[:2000]

    def _word(self, value: object) -> str | None:
        return self.scrub_text(value)[:200] if isinstance(value, str) else None

    async def _start_of_body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        try:
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) >= _ERROR_BYTES:
                    break
        except httpx.HTTPError as error:
            _log.info("a provider's error ended early", kind=type(error).__name__)
        return bytes(body)


async def _once(asked: ChatRequest) -> AsyncIterator[bytes]:
    """The body as a stream, which nobody keeps while the answer comes."""
    yield asked.take_body()


def _error_in(body: bytes) -> dict[str, Any]:
    """The error object of an OpenAI-like answer; an empty one where there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}
