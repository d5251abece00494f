"""OpenAI's own client and the echo model's server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from bot.standins.model import echo_app
from bot.standins.serving import running

TOOL: Any = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        running(echo_app()) as url,
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0) as client,
    ):
        yield client


async def test_answers(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    answer = await client.chat.completions.create(model="echo", messages=messages)
    assert answer.choices[0].message.content == "You wrote: hello"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert [model.id async for model in client.models.list()] == ["echo"]


async def test_streams_slowly_when_it_counts(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "count to 2"}]
    options: Any = {"stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(model="echo", messages=messages, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "Watch this message grow while I count:", " 1", " 2", None]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_asks_for_a_tool(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "tool: ls"}]
    answer = await client.chat.completions.create(model="echo", messages=messages, tools=[TOOL])
    calls: Any = answer.choices[0].message.tool_calls
    assert [(call.type, call.function.name) for call in calls] == [("function", "ls")]


async def test_says_what_is_wrong(client: openai.AsyncOpenAI) -> None:
    failing: Any = [{"role": "user", "content": "error 422"}]
    with pytest.raises(openai.UnprocessableEntityError, match="asked to"):
        await client.chat.completions.create(model="echo", messages=failing)
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.chat.completions.create(model="echo", messages=[])
