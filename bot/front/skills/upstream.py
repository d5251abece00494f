"""The registry that skills come from, asked so that it keeps answering.

Its limits hold for an address, which all instances share here: one client for all of them, few requests at a time, and
after a 429 none until it says so. Source: ClawHub's docs/http-api.md, and openclaw 2026.9.6's own client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import structlog

from bot.front.botapi.refusals import Refused
from bot.front.botapi.requests import clean, json_value
from bot.front.skills.errors import Ambiguous, Forbidden, NotThere, SkillError, TakenBack, Unavailable
from bot.skills.inspection.archive import LARGEST_ARCHIVE

_log = structlog.get_logger(__name__)

_TIMEOUT = httpx.Timeout(connect=5.0, read=15.0, write=15.0, pool=15.0)
#: Seconds that one answer may take in all.
_WITHIN = 30.0
_DOWNLOAD_WITHIN = 120.0
_LARGEST_JSON = 4 * 2**20
#: Requests at a time, besides one of :attr:`Upstream.first`.
_AT_ONCE = 4
#: Seconds after the pause of a 429 in which `first` alone asks, so that nobody else brings about the next one before.
_HEAD_START = 2.0
#: Seconds without a request after a 429 that says nothing, and at most.
_AFTER_LIMIT = 30.0
_LONGEST_PAUSE = 600.0
#: The registry as a whole does not work; 500 can be one skill's.
_DOWN = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 529})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 4
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "zaki"}
_PIECE = 256 * 1024


@dataclass
class _Pause:
    """Until when the registry is not asked (`time.monotonic`), and why."""

    until: float = 0.0
    why: str = ""
    #: Whether the registry wants it.
    wanted: bool = False
    failures: int = 0


class Upstream:
    """Asks the registry; raises :class:`~bot.front.skills.errors.SkillError` where it does not say what was asked."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._pause = _Pause()
        self._head_start = _HEAD_START

    @cached_property
    def first(self) -> Upstream:
        """For the check of what is served already: waits behind no instance, and asks first after a pause."""
        beside = Upstream(self.url, self._http)
        beside._room, beside._pause, beside._head_start = asyncio.Semaphore(1), self._pause, 0.0
        return beside

    def ask_again(self) -> None:
        """Ask at the next request, whatever pause there should be."""
        self._pause.until, self._pause.wanted = 0.0, False

    async def get(self, path: str, params: Mapping[str, str | None] | None = None) -> dict[str, Any]:
        """A JSON object; `params` that are None are left out."""
        return await self._json("GET", path, params, None)

    async def post(self, path: str, body: object) -> dict[str, Any]:
        """The JSON object that answers a JSON body."""
        return await self._json("POST", path, None, body)

    async def download(self, path: str, params: Mapping[str, str | None], target: Path) -> None:
        """Write an archive to a file; raises :class:`~bot.front.skills.errors.Forbidden` where it is too large."""
        async with self._asked("GET", path, params, None, _DOWNLOAD_WITHIN) as answer:
            file = await asyncio.to_thread(target.open, "wb")
            try:
                size = 0
                async for piece in answer.aiter_raw(_PIECE):
                    size += len(piece)
                    if size > LARGEST_ARCHIVE:
                        raise Forbidden(f"Its archive is larger than {LARGEST_ARCHIVE // 2**20} MiB.")
                    await asyncio.to_thread(file.write, piece)
            finally:
                await asyncio.to_thread(file.close)

    async def _json(
        self, method: str, path: str, params: Mapping[str, str | None] | None, body: object
    ) -> dict[str, Any]:
        content = bytearray()
        async with self._asked(method, path, params, body, _WITHIN) as answer:
            async for piece in answer.aiter_raw():
                content += piece
                if len(content) > _LARGEST_JSON:
                    raise _nonsense(path)
        try:
            # Here, and not where each text is used: half a character in one would break whatever shows or keeps it.
            found = json_value(bytes(content))
        except Refused:
            raise _nonsense(path) from None
        if not isinstance(found, dict):
            raise _nonsense(path)
        return found

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, params: Mapping[str, str | None] | None, body: object, within: float
    ) -> AsyncIterator[httpx.Response]:
        """An answer that is a success, with its body unread."""
        request = self._http.build_request(
            method,
            self.url + path,
            params={name: value for name, value in (params or {}).items() if value is not None},
            headers=_HEADERS,
            json=body,
            timeout=_TIMEOUT,
        )
        self._check_open()
        try:
            async with self._room, asyncio.timeout(within):
                # Whoever waited for room finds out what the one before was told.
                self._check_open()
                answer = await self._send(request)
                try:
                    error = self._judge(answer, path, await _start(answer))
                    if error is not None:
                        raise error
                    yield answer
                finally:
                    await answer.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise self._failed("ClawHub does not answer in time") from None
        except httpx.HTTPError:
            raise self._failed("ClawHub cannot be reached") from None

    async def _send(self, request: httpx.Request) -> httpx.Response:
        for _ in range(_MOST_REDIRECTS):
            answer = await self._http.send(request, stream=True, follow_redirects=False)
            if answer.status_code not in _REDIRECTS or request.method != "GET":
                return answer
            await answer.aclose()
            there = urlsplit(urljoin(str(request.url), answer.headers.get("location", "")))
            # A registry of one's own on a private address redirects to itself, any other to the open Internet.
            if there.scheme != "https" and there.netloc != urlsplit(str(request.url)).netloc:
                break
            request = self._http.build_request("GET", there.geturl(), headers=_HEADERS, timeout=_TIMEOUT)
        raise _nonsense(request.url.path)

    def _check_open(self) -> None:
        pause = self._pause
        left = pause.until + (self._head_start if pause.wanted else 0.0) - time.monotonic()
        if left > 0:
            raise Unavailable(f"{pause.why}; Zaki asks it again in {max(1, round(left))} s.", left)

    def _close(self, why: str, seconds: float, *, wanted: bool = False) -> Unavailable:
        pause = self._pause
        pause.until = max(pause.until, time.monotonic() + seconds)
        pause.why, pause.wanted = why, wanted
        _log.warning("the registry of skills is not asked for a while", reason=why, seconds=round(seconds))
        seconds += self._head_start if wanted else 0.0
        return Unavailable(f"{why}; try again in {max(1, round(seconds))} s.", seconds)

    def _failed(self, why: str) -> Unavailable:
        self._pause.failures += 1
        return self._close(why, min(60.0, 2.0 ** min(self._pause.failures - 1, 6)))

    def _judge(self, answer: httpx.Response, path: str, text: str) -> SkillError | None:
        """What an answer that is no success means."""
        status = answer.status_code
        if status == 429:
            seconds = min(_retry_after(answer), _LONGEST_PAUSE)
            return self._close("ClawHub has had enough requests from here", seconds, wanted=True)
        if status in _DOWN:
            return self._failed(f"ClawHub is down (it answers {status})")
        self._pause.failures = 0
        if status < 300:
            return None
        said = " ".join(text.split())[:300]
        if status == 404:
            return NotThere("ClawHub has no such skill or version.")
        if status == 409:
            return Ambiguous(f"Several publishers have a skill of this name; ask for @owner/name. {said}".strip())
        if status == 410:
            return TakenBack("ClawHub took it back.")
        if status in (401, 403, 423, 451):
            return Forbidden(f"ClawHub does not give it out{f': {said}' if said else ''}.")
        if status >= 500:
            return Unavailable(f"ClawHub fails at this one (it answers {status}); try again later.", 30.0)
        return _nonsense(path)


async def _start(answer: httpx.Response) -> str:
    """The first words of an error; the body of a success stays unread."""
    if answer.status_code < 300:
        return ""
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) >= 2048:
            break
    return str(clean(bytes(content[:2048]).decode("utf-8", "replace")))


def _retry_after(answer: httpx.Response) -> float:
    for name in ("retry-after", "ratelimit-reset"):
        value = answer.headers.get(name, "")
        if value.isascii() and value.isdigit():
            return max(1.0, float(value[:9]))
    return _AFTER_LIMIT


def _nonsense(path: str) -> Unavailable:
    _log.warning("the registry of skills answers nonsense", path=path[:200])
    return Unavailable("ClawHub answers something that is none of its answers; try again later.", 30.0)
