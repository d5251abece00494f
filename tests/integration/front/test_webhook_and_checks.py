"""The public side over a real socket: what gets in, what does not, and what operators see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from sqlalchemy import select

from bot.front.app import Front, bridge_app, public_app, uvicorn_config
from bot.front.context import FrontContext
from bot.front.ingest import LARGEST_BODY, webhook_secret
from bot.settings import Settings
from bot.standins.serving import running
from bot.store import Database
from bot.store.tables import InboxUpdate
from tests.updates import text_message

ADA = 4711
HEADER = "X-Telegram-Bot-Api-Secret-Token"


@pytest.fixture
async def front(context: FrontContext) -> AsyncIterator[Front]:
    """A front whose background is not started: what comes in stays as it came."""
    front = Front(context)
    yield front
    await front.stop()


@pytest.fixture
async def public(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its public side, without the secret."""
    async with running(public_app(front)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture
def secret(context: FrontContext) -> dict[str, str]:
    """The header that Telegram sends."""
    return {HEADER: webhook_secret(context.key, context.settings.require_token())}


async def _ids(database: Database) -> list[int]:
    async with database.read() as session:
        return list(await session.scalars(select(InboxUpdate.update_id).order_by(InboxUpdate.update_id)))


@pytest.mark.parametrize("wrong", [{}, {HEADER: ""}, {HEADER: "x" * 43}, {HEADER: "\xe9"}])
async def test_without_the_secret_nothing_is_stored(
    public: httpx.AsyncClient, database: Database, wrong: dict[str, str]
) -> None:
    headers = httpx.Headers(list(wrong.items()), encoding="latin-1")
    answer = await public.post("/telegram/webhook", content=text_message(1, ADA, "hello"), headers=headers)
    assert answer.status_code == 401
    assert await _ids(database) == []


async def test_an_update_is_in_the_database_when_telegram_hears_200(
    public: httpx.AsyncClient, database: Database, secret: dict[str, str]
) -> None:
    body = text_message(1, ADA, "hello")
    for _ in range(2):
        answer = await public.post("/telegram/webhook", content=body, headers=secret)
        assert answer.status_code == 200
        assert await _ids(database) == [1]
    answers = await asyncio.gather(
        *(public.post("/telegram/webhook", content=text_message(2, ADA, "again"), headers=secret) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert await _ids(database) == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"update_id": "1", "message": {}}',
        b'{"update_id": true, "message": {}}',
        b'{"update_id": -1, "message": {}}',
        b'{"update_id": 9223372036854775808, "message": {}}',
        b'{"update_id": 1.5, "message": {}}',
        b'{"update_id": 1}',
        b'{"update_id": 1, "message": "hello"}',
        b'{"message": {}}',
        b'{"update_id": 1, "message": {"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
    ],
)
async def test_what_is_no_update_gets_400(
    public: httpx.AsyncClient, database: Database, secret: dict[str, str], body: bytes
) -> None:
    assert (await public.post("/telegram/webhook", content=body, headers=secret)).status_code == 400
    assert await _ids(database) == []


async def test_texts_that_databases_refuse_are_no_reason_for_5xx(
    public: httpx.AsyncClient, database: Database, secret: dict[str, str]
) -> None:
    sender = b'{"id": 5, "is_bot": false, "first_name": "A\\u0000\\ud83d", "language_code": "\\u0000"}'
    chat = b'"chat": {"id": 5, "type": "private"}'
    bodies = (
        b'{"update_id": 1, "\\ud83d\\u0000": {"from": ' + sender + b", " + chat + b"}}",
        b'{"update_id": 2, "message": {"from": ' + sender + b", " + chat + b', "text": "\\u0000", '
        b'"photo": [{"file_id": "\\u0000\\ud83d"}]}}',
    )
    for body in bodies:
        assert (await public.post("/telegram/webhook", content=body, headers=secret)).status_code == 200
    assert await _ids(database) == [1, 2]


async def test_a_body_that_is_too_large_gets_413(
    public: httpx.AsyncClient, database: Database, secret: dict[str, str]
) -> None:
    body = text_message(1, ADA, "x" * LARGEST_BODY)
    assert (await public.post("/telegram/webhook", content=body, headers=secret)).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    assert (await public.post("/telegram/webhook", content=pieces(), headers=secret)).status_code == 413
    assert await _ids(database) == []
    just = text_message(2, ADA, "x" * (LARGEST_BODY - 1000))
    assert (await public.post("/telegram/webhook", content=just, headers=secret)).status_code == 200


async def test_a_database_that_is_down_is_the_one_reason_for_5xx(
    public: httpx.AsyncClient, front: Front, database: Database, secret: dict[str, str]
) -> None:
    async with database.write() as session:
        connection = await session.connection()
        await connection.run_sync(lambda sync: InboxUpdate.__table__.drop(sync))  # type: ignore[attr-defined]
    answer = await public.post("/telegram/webhook", content=text_message(1, ADA, "hello"), headers=secret)
    assert answer.status_code == 503


async def test_the_secret_is_another_for_another_token_or_key(
    context: FrontContext, make_context: Callable[[Settings], FrontContext], make_settings: Callable[..., Settings]
) -> None:
    other = make_context(make_settings(state=context.settings.state.parent / "other"))
    secrets = {
        webhook_secret(context.key, "1:a"),
        webhook_secret(context.key, "1:b"),
        webhook_secret(other.key, "1:a"),
    }
    assert len(secrets) == 3
    assert all(secret.isascii() and 1 <= len(secret) <= 256 for secret in secrets)


async def test_the_checks_tell_what_runs(public: httpx.AsyncClient, front: Front, database: Database) -> None:
    assert (await public.get("/healthz")).json() == {"status": "live"}
    await front.start()
    answer = await public.get("/readyz")
    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert {"database", "outbox", "router", "sweep", "polling"} <= set(checks)
    assert set(checks.values()) == {"ok"}
    metrics = (await public.get("/metrics")).text
    assert "zaki_updates_total" in metrics
    assert 'zaki_instances{state="running"} 0.0' in metrics


async def test_a_part_that_fails_is_seen_and_started_again(
    public: httpx.AsyncClient, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    async def broken() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("a bug")
        await asyncio.Event().wait()

    monkeypatch.setattr(front.router, "run", broken)
    await front.start()
    statuses: list[int] = []
    deadline = asyncio.get_running_loop().time() + 15
    while not statuses or statuses[-1] != 200 or 503 not in statuses:
        statuses.append((await public.get("/readyz")).status_code)
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert runs == 2


async def test_each_side_serves_only_its_own(public: httpx.AsyncClient, front: Front) -> None:
    assert (await public.post("/telegram/bot1:a/getMe")).status_code == 404
    assert (await public.post("/llm/v1/chat/completions")).status_code == 404
    assert (await public.get("/docs")).status_code == 404
    async with running(bridge_app(front)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as bridge:
        for path in ("/telegram/webhook", "/healthz", "/readyz", "/metrics"):
            assert (await bridge.post(path)).status_code == 404
        assert (await bridge.post("/telegram/bot1:a/getMe")).status_code == 401


def test_no_access_log_can_hold_a_token(front: Front) -> None:
    config = uvicorn_config(bridge_app(front))
    assert (config.access_log, config.proxy_headers, config.server_header) == (False, False, False)
