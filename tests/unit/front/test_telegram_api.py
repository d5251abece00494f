"""The client of the real Bot API: what it says, and what it keeps to itself."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import respx

from bot.credentials import FrontKey
from bot.front.context import FrontContext
from bot.front.telegram import TelegramApi, TelegramUnavailable, Upload, chunks
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings

TOKEN = "1234567890:AAsecretSECRETsecretSECRET"
URL = f"https://api.telegram.org/bot{TOKEN}"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[TelegramApi]:
    settings = Settings(_env_file=None, telegram_token=TOKEN, state=tmp_path)
    network = IPv4Network("127.0.0.0/8")
    host = HostFacts("n", "b", network, IPv4Address("127.0.0.1"), network, "sha256:0", "runc")
    async with httpx.AsyncClient(trust_env=False) as http:
        # It has no need of a database.
        yield TelegramApi(FrontContext(settings, cast(Any, None), Nudge(), host, FrontKey(bytes(32)), http))


@respx.mock
async def test_answers_are_given_whole_also_where_telegram_refuses(api: TelegramApi) -> None:
    limited = {"ok": False, "error_code": 429, "parameters": {"retry_after": 3}}
    route = respx.post(f"{URL}/sendMessage").mock(return_value=httpx.Response(429, json=limited))
    assert await api.call("sendMessage", {"chat_id": 1, "text": "x", "nothing": None}) == limited
    assert json.loads(route.calls[0].request.content) == {"chat_id": 1, "text": "x"}


@respx.mock
async def test_files_are_sent_as_parts(api: TelegramApi, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"content")
    route = respx.post(f"{URL}/sendDocument").mock(return_value=httpx.Response(200, json={"ok": True, "result": {}}))
    upload = Upload("document", file, "ä.txt", "text/plain", 7)
    await api.call("sendDocument", {"chat_id": 1, "reply_markup": {"a": [1]}}, [upload])
    request = route.calls[0].request
    assert request.headers["content-type"].startswith("multipart/form-data")
    for piece in (b'name="document"', "ä.txt".encode(), b"content", b'{"a": [1]}'):
        assert piece in request.content


@pytest.mark.parametrize(
    ("outcome", "in_doubt", "answered"),
    [
        (httpx.ConnectError("no"), False, False),
        (httpx.ConnectTimeout("no"), False, False),
        (httpx.ReadTimeout("no"), True, False),
        (httpx.RemoteProtocolError("no"), True, False),
        (httpx.WriteError("no"), True, False),
        (httpx.Response(500, json={"ok": False, "error_code": 500}), False, True),
        (httpx.Response(502, html="<html>"), False, True),
        (httpx.Response(504, html="<html>"), True, True),
        (httpx.Response(404, html="<html>"), False, True),
        (httpx.Response(200, html="<html>"), True, True),
        (httpx.Response(401, json={"ok": False, "error_code": 401, "description": "Unauthorized"}), False, False),
    ],
)
@respx.mock
async def test_no_usable_answer_says_whether_the_call_may_have_been_carried_out(
    api: TelegramApi, outcome: Any, in_doubt: bool, answered: bool
) -> None:
    route = respx.post(f"{URL}/sendMessage")
    if isinstance(outcome, httpx.Response):
        route.mock(return_value=outcome)
    else:
        route.mock(side_effect=outcome)
    with pytest.raises(TelegramUnavailable) as unavailable:
        await api.call("sendMessage", {"chat_id": 1})
    assert (unavailable.value.in_doubt, unavailable.value.answered) == (in_doubt, answered)


@respx.mock
async def test_the_token_is_in_no_exception_and_in_no_log(api: TelegramApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")
    respx.post(f"{URL}/getMe").mock(side_effect=httpx.ReadTimeout("no"))
    respx.get(f"https://api.telegram.org/file/bot{TOKEN}/a/b%20c").mock(side_effect=httpx.ReadError("no"))
    respx.post(f"{URL}/getChat").mock(return_value=httpx.Response(200, json={"ok": True}))
    written = []
    for call in (api.call("getMe", {}), _download(api)):
        with pytest.raises(TelegramUnavailable) as unavailable:
            await call
        error: BaseException | None = unavailable.value
        written += traceback.format_exception(unavailable.value)
        while error is not None:
            written.append(f"{error!r} {getattr(error, '__dict__', {})}")
            error = error.__context__
    await api.call("getChat", {})
    for text in (*written, caplog.text, repr(api)):
        assert TOKEN.partition(":")[2] not in text
    assert "HTTP Request: POST https://api.telegram.org/bot…/getChat" in caplog.text


async def _download(api: TelegramApi) -> None:
    async with api.download("a/b c") as answer:
        async for _ in chunks(answer):
            pass
