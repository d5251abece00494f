"""Downloads: paths that hold for one instance, and bytes that are passed through without being kept."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import Any

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from bot.credentials import FrontKey, same
from bot.front.botapi.in_flight import TOO_MANY, InFlight
from bot.front.outbox.answers import refusal
from bot.front.telegram import TelegramApi, TelegramUnavailable, chunks

_log = structlog.get_logger(__name__)

#: What Telegram lets a bot download, bytes.
_LARGEST = 20 * 2**20
_TRIES = 4
#: Seconds for all of a download.
_WITHIN = 300.0
_PURPOSE = "telegram-file"
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_-][A-Za-z0-9_. -]*)*\Z")


def outward(key: FrontKey, instance_id: str, path: str) -> str | None:
    """What the instance is told instead of Telegram's `file_path`; None where that is not one of Telegram's cloud."""
    if not _PATH.match(path):
        return None
    encoded = base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")
    # Its end stays readable, as a name and a type are taken from it.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.rsplit("/", 1)[-1])
    return f"{_mark(key, instance_id, path)}/{encoded}/{name}"


def inward(key: FrontKey, instance_id: str, path: str) -> str | None:
    """Telegram's path for one of ours; None where we gave this instance no such path."""
    mark, _, rest = path.partition("/")
    encoded = rest.partition("/")[0]
    try:
        found = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    if not same(mark, _mark(key, instance_id, found)) or not _PATH.match(found):
        return None
    return found


def with_our_path(answer: dict[str, Any], key: FrontKey, instance_id: str) -> dict[str, Any]:
    """Telegram's answer to `getFile` with a path of ours."""
    result = answer.get("result")
    if not answer.get("ok") or not isinstance(result, dict) or not isinstance(result.get("file_path"), str):
        return answer
    path = outward(key, instance_id, result["file_path"])
    if path is None:
        _log.error("the Bot API server gives local file paths; run it without --local")
        return refusal(400, "Bad Request: file is temporarily unavailable")
    return {"ok": True, "result": {**result, "file_path": path}}


class Download(Response):
    """Passes a file through as Telegram sends it; it counts as a request under way until the last byte is out."""

    def __init__(self, api: TelegramApi, path: str, in_flight: InFlight, instance_id: str) -> None:
        super().__init__()
        self._api = api
        self._path = path
        self._in_flight = in_flight
        self._instance_id = instance_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._in_flight.enter(self._instance_id):
            await _refuse(400, TOO_MANY, scope, receive, send)
            return
        try:
            # Whoever reads slowly, or never, must not keep a connection to Telegram.
            async with asyncio.timeout(_WITHIN):
                await self._pass_through(scope, receive, send)
        except TimeoutError:
            _log.warning("a download took too long and is cut", instance=self._instance_id)
        finally:
            self._in_flight.leave(self._instance_id)

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                async with self._api.download(self._path) as answer:
                    length = answer.headers.get("content-length", "")
                    if answer.status_code != 200:
                        await _refuse(404, "Not Found", scope, receive, send)
                    elif length.isdigit() and int(length) > _LARGEST:
                        await _refuse(400, "Bad Request: file is too big", scope, receive, send)
                    else:
                        headers = [(b"content-type", b"application/octet-stream")]
                        if length.isdigit():
                            headers.append((b"content-length", length.encode()))
                        await send({"type": "http.response.start", "status": 200, "headers": headers})
                        await _pass(chunks(answer), send)
                    return
            except TelegramUnavailable as unavailable:
                if attempt == _TRIES:
                    _log.warning("a file cannot be fetched", reason=str(unavailable))
            await asyncio.sleep(2.0 ** (attempt - 2))
        await _refuse(404, "Not Found: the file cannot be fetched now", scope, receive, send)


async def _pass(source: Any, send: Send) -> None:
    passed = 0
    try:
        async for chunk in source:
            passed += len(chunk)
            if passed > _LARGEST:
                _log.warning("a file is larger than Telegram announced; the download is cut")
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except TelegramUnavailable as unavailable:
        # An answer that stays incomplete tells the instance that the file is.
        _log.warning("a download was cut off", reason=str(unavailable))
        return
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(code: int, description: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(refusal(code, description), code)(scope, receive, send)


def _mark(key: FrontKey, instance_id: str, path: str) -> str:
    return key.sign(_PURPOSE, f"{instance_id}\0{path}")
