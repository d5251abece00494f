"""Who may call `/llm/v1`, and with what."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from bot.front.models import requests
from bot.store import Database
from bot.store.tables import Instance
from tests.integration.front.models.conftest import INSTANCE, Bridge, Provider

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
REFUSED = {
    "error": {
        "message": "This model key is not valid here.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}


async def test_a_key_from_another_address_is_refused(bridge: Bridge, provider: Provider) -> None:
    provider.completes("hello")
    async with bridge.http(address="127.0.0.1") as own:
        assert (await own.post("/chat/completions", json=ASKED)).status_code == 200
    async with bridge.http(address="127.0.0.2") as other:
        answer = await other.post("/chat/completions", json=ASKED)
    assert (answer.status_code, answer.json()) == (401, REFUSED)
    assert len(provider.bodies) == 1


async def test_a_revoked_key_is_refused(bridge: Bridge, provider: Provider, database: Database) -> None:
    provider.completes("hello")
    async with database.write() as session:
        await session.execute(update(Instance).where(Instance.id == INSTANCE).values(credentials_epoch=2))
    async with bridge.http() as client:
        answer = await client.post("/chat/completions", json=ASKED)
    assert (answer.status_code, answer.json()) == (401, REFUSED)
    assert provider.bodies == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic abc", "Bearer sk-zaki-zzzzzzzzzz-" + "A" * 43, "Bearer \xe9"]
)
@pytest.mark.parametrize("path", ["chat/completions", "models", "embeddings"])
async def test_nothing_is_served_without_a_key(echo: Bridge, authorization: str, path: str) -> None:
    async with echo.http() as client:
        method = "GET" if path == "models" else "POST"
        headers = httpx.Headers([("Authorization", authorization)], encoding="latin-1")
        answer = await client.request(method, f"/{path}", headers=headers)
    assert (answer.status_code, answer.json()) == (401, REFUSED)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"\xff\xfe",
        b'{"model": "default"}',
        b'{"model": "default", "messages": []}',
        b'{"model": "default", "messages": ["hello"]}',
        b'{"model": "default", "messages": [{"role": "user", "content": "a"}], "n": 2}',
        b'{"model": "default", "messages": [{"role": "user", "content": "a"}], "stream": "yes"}',
        b'{"model": "default", "messages": [{"role": "user", "content": "a"}], "stream_options": 1}',
        b'{"model": "default", "messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        b'{"model": "default", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
async def test_what_is_no_chat_request_is_refused(bridge: Bridge, provider: Provider, body: bytes) -> None:
    async with bridge.http() as client:
        answer = await client.post("/chat/completions", content=body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert provider.bodies == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused(
    bridge: Bridge, provider: Provider, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(requests, "MAX_BODY", 2_000_000)
    body = json.dumps({**ASKED, "messages": [{"role": "user", "content": "a" * 2_000_000}]}).encode()

    async def chunked() -> Any:
        yield body

    async with bridge.http() as client:
        answer = await client.post("/chat/completions", content=body if announced else chunked())
    assert answer.status_code == 413
    assert answer.json()["error"]["message"] == "The request is larger than 2 MB; send less."
    assert provider.bodies == []
