"""A bridge that serves `/llm/v1`, an instance that calls it, and a provider whose answers a test writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.front.context import FrontContext
from bot.front.models import ModelsState, router
from bot.front.models.breaker import CircuitBreaker
from bot.front.outbox import Outbox
from bot.front.telegram import TelegramApi
from bot.settings import Settings
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import Instance, User, UserStatus

PROVIDER_KEY = "sk-operator-0123456789abcdef"
INSTANCE = "u-abcdefghij"
OWNER = 4711


@dataclass
class Provider:
    """An OpenAI-like provider; `answer` is what the test makes of it."""

    url: str = ""
    answer: Callable[[Request], Awaitable[Response]] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def serve(self, request: Request) -> Response:
        """Note the request, then answer as the test says."""
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        assert self.answer is not None
        return await self.answer(request)

    def completes(self, text: str, prompt: int = 11, completion: int = 7) -> None:
        """Answer with a text, streamed where that is asked for, and this usage."""
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

        async def answer(_request: Request) -> Response:
            if self.bodies[-1]["stream"]:
                events = [chunk(text), chunk("", "stop"), sse({"id": "c", "choices": [], "usage": usage}), DONE]
                return StreamingResponse(pieces(events), media_type="text/event-stream")
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return JSONResponse({**HEAD, "object": "chat.completion", "choices": [choice], "usage": usage})

        self.answer = answer

    def fails(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        """Answer with an error."""

        async def answer(_request: Request) -> Response:
            return JSONResponse(body, status, headers=headers)

        self.answer = answer


HEAD = {"id": "chatcmpl-1", "created": 1, "model": "big-model"}
DONE = b"data: [DONE]\n\n"


def sse(data: dict[str, Any]) -> bytes:
    """An event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(text: str, finish: str | None = None) -> bytes:
    """An event with a piece of the answer."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return sse({**HEAD, "object": "chat.completion.chunk", "choices": [choice]})


async def pieces(events: list[bytes]) -> AsyncIterator[bytes]:
    """The events, one by one."""
    for event in events:
        yield event


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider on the loopback interface."""
    provider = Provider()
    app = Starlette(routes=[Route("/v1/chat/completions", provider.serve, methods=["POST"])])
    async with running(app) as url:
        provider.url = url + "/v1"
        yield provider


@dataclass
class Bridge:
    """`/llm/v1` as instances reach it."""

    url: str
    state: ModelsState
    context: FrontContext

    @property
    def key(self) -> str:
        """The instance's virtual key."""
        return self.context.key.derive(INSTANCE, 1).model_key

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """OpenAI's own client, as an instance would use it; it does not try again unless told to."""
        options = {"api_key": self.key, "max_retries": 0, **options}
        return openai.AsyncOpenAI(base_url=self.url + "/llm/v1", **options)

    def http(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A plain client that calls from an address, with the instance's key."""
        return httpx.AsyncClient(
            base_url=self.url + "/llm/v1",
            headers={"Authorization": f"Bearer {self.key}"},
            transport=httpx.AsyncHTTPTransport(local_address=address),
        )


MakeBridge = Callable[..., Any]


@pytest.fixture
async def member(database: Database) -> int:
    """A person with an instance at 127.0.0.1; their row's id."""
    async with database.write() as session:
        user = User(telegram_id=OWNER, first_name="Ada", status=UserStatus.ACTIVE, created_at=now())
        session.add(user)
        await session.flush()
        session.add(
            Instance(
                id=INSTANCE,
                user_id=user.id,
                plan="standard",
                address="127.0.0.1",
                image="sha256:" + "0" * 64,
                created_at=now(),
            )
        )
        return user.id


@pytest.fixture
def make_bridge(
    member: int, make_settings: Callable[..., Settings], make_context: Callable[[Settings], FrontContext]
) -> MakeBridge:
    """Serve `/llm/v1` with settings of the test's own."""

    @asynccontextmanager
    async def make(breaker: CircuitBreaker | None = None, **changes: Any) -> AsyncIterator[Bridge]:
        context = make_context(make_settings(**changes))
        state = ModelsState(context, Outbox(context, TelegramApi(context)), breaker)
        app = FastAPI()
        app.include_router(router(context, state))
        async with running(app) as url:
            yield Bridge(url, state, context)
        await state.close()

    return make


@pytest.fixture
async def echo(make_bridge: MakeBridge) -> AsyncIterator[Bridge]:
    """The bridge with the built-in echo model."""
    async with make_bridge() as bridge:
        yield bridge


@pytest.fixture
async def bridge(make_bridge: MakeBridge, provider: Provider) -> AsyncIterator[Bridge]:
    """The bridge with the test's provider."""
    async with make_bridge(model_url=provider.url, model_key=PROVIDER_KEY, model="big-model") as bridge:
        yield bridge
