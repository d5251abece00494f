"""The Bot API as a client: one call, its whole answer, and never a word of the token."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from bot.front.context import FrontContext

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
#: Telegram takes its time over a file once it has it all.
_UPLOAD_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
_TOKEN = re.compile(r"(/bot)\d+:[A-Za-z0-9_%-]+")

#: Failures before the request was on its way: Telegram cannot have acted on it.
_NOT_STARTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class TelegramUnavailable(Exception):
    """Telegram gave no answer that can be used; the call should be tried again later."""

    def __init__(self, reason: str, *, in_doubt: bool, answered: bool = False) -> None:
        super().__init__(reason)
        #: The request may have been carried out, though no answer says so.
        self.in_doubt = in_doubt
        #: Telegram answered (5xx), so it can be reached.
        self.answered = answered


@dataclass(frozen=True)
class Upload:
    """A file on disk that goes out as a part of a multipart request; `size` in bytes.

    `sha256` is the content's, in hexadecimal digits; empty where nobody asks for it any more.
    """

    field: str
    path: Path
    filename: str
    content_type: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class RawAnswer:
    """An answer's status and its bytes as they came."""

    status: int
    body: bytes


class TelegramApi:
    """Calls of the real bot. The token is in the URL, so no URL, request or httpx exception leaves this class."""

    def __init__(self, context: FrontContext) -> None:
        self._http = context.http
        self._base = context.settings.telegram_api
        self._token = context.settings.require_token()
        _keep_tokens_out_of_logs()

    async def call(self, method: str, params: Mapping[str, Any], files: Sequence[Upload] = ()) -> dict[str, Any]:
        """Telegram's whole answer, also where it refuses (4xx, 429); raises :class:`TelegramUnavailable`."""
        return _judge(method, await self.raw(method, params, files))

    async def raw(
        self,
        method: str,
        params: Mapping[str, Any],
        files: Sequence[Upload] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> RawAnswer:
        """The answer's bytes, whatever its status; raises :class:`TelegramUnavailable` where there is none.

        `timeout` is in seconds for the whole wait for an answer, as long polling needs it.
        """
        limits = httpx.Timeout(timeout, connect=10.0) if timeout else _UPLOAD_TIMEOUT if files else _TIMEOUT
        url = f"{self._base}/bot{self._token}/{method}"
        given = {name: value for name, value in params.items() if value is not None}
        with ExitStack() as opened:
            if files:
                parts = {
                    file.field: (file.filename, opened.enter_context(file.path.open("rb")), file.content_type)
                    for file in files
                }
                fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
                request = self._http.build_request("POST", url, data=fields, files=parts, timeout=limits)
            else:
                request = self._http.build_request("POST", url, json=given, timeout=limits)
            failure: TelegramUnavailable
            try:
                answer = await self._http.send(request, follow_redirects=False)
                return RawAnswer(answer.status_code, answer.content)
            except httpx.HTTPError as error:
                failure = _failure(method, error)
        # Outside of the handler, so that the exception of httpx, which knows the URL, is not its context.
        raise failure

    @asynccontextmanager
    async def download(self, file_path: str) -> AsyncIterator[httpx.Response]:
        """A file's answer, not yet read; `file_path` is Telegram's own. Raises :class:`TelegramUnavailable`.

        Reading it may raise httpx errors that know the URL: use :func:`chunks`.
        """
        url = f"{self._base}/file/bot{self._token}/{quote(file_path)}"
        request = self._http.build_request("GET", url, headers={"Accept-Encoding": "identity"}, timeout=_TIMEOUT)
        failure: TelegramUnavailable | None = None
        answer: httpx.Response | None = None
        try:
            answer = await self._http.send(request, stream=True, follow_redirects=False)
        except httpx.HTTPError as error:
            failure = _failure("file", error)
        if answer is None:
            raise failure or TelegramUnavailable("Telegram gave no answer.", in_doubt=False)
        try:
            if answer.status_code >= 500:
                raise TelegramUnavailable(
                    f"Telegram answered file with status {answer.status_code}.", in_doubt=False, answered=True
                )
            yield answer
        finally:
            await answer.aclose()


async def chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The answer's bytes as they come; raises :class:`TelegramUnavailable` where it ends too early."""
    failure: TelegramUnavailable | None = None
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        failure = _failure("file", error)
    if failure is not None:
        raise failure


def _judge(method: str, answer: RawAnswer) -> dict[str, Any]:
    if answer.status >= 500:
        # A gateway's time-out says that the server behind it got the call and was slow.
        raise TelegramUnavailable(
            f"Telegram answered {method} with status {answer.status}.", in_doubt=answer.status == 504, answered=True
        )
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("ok"), bool):
        raise TelegramUnavailable(
            f"The answer to {method} (status {answer.status}) is not Telegram's; check ZAKI_TELEGRAM_API.",
            in_doubt=answer.status < 300,
            answered=True,
        )
    if body.get("error_code") == 401:
        raise TelegramUnavailable(
            "Telegram refuses the bot's token; set ZAKI_TELEGRAM_TOKEN to the one that @BotFather shows.",
            in_doubt=False,
        )
    return body


def _failure(method: str, error: httpx.HTTPError) -> TelegramUnavailable:
    return TelegramUnavailable(
        f"Telegram gave no answer to {method} ({type(error).__name__}).", in_doubt=not isinstance(error, _NOT_STARTED)
    )


class _WithoutTokens(logging.Filter):
    """httpx logs each request's URL, and Telegram's URLs hold the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if _TOKEN.search(message):
            record.msg, record.args = _TOKEN.sub(r"\1…", message), ()
        return True


def _keep_tokens_out_of_logs() -> None:
    logger = logging.getLogger("httpx")
    if not any(isinstance(present, _WithoutTokens) for present in logger.filters):
        logger.addFilter(_WithoutTokens())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
