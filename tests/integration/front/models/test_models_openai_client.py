"""OpenAI's own client, unmodified, as an instance that talks to the built-in echo model."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.integration.front.models.conftest import Bridge

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

TOOL: Any = {
    "type": "function",
    "function": {"name": "ls", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
}


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def test_answers_a_whole_completion(echo: Bridge) -> None:
    async with echo.openai() as client:
        answer = await client.chat.completions.create(model="default", messages=said("hello"))
    assert answer.choices[0].message.content == "You wrote: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


async def test_streams_a_completion(echo: Bridge) -> None:
    async with echo.openai() as client:
        stream = await client.chat.completions.create(model="default", messages=said("hello there"), stream=True)
        chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == "You wrote: hello there"
    assert len([text for text in texts if text]) > 1
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("wanted", [True, False])
async def test_usage_comes_with_the_stream_where_it_was_asked_for(echo: Bridge, wanted: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wanted else {}
    async with echo.openai() as client:
        stream = await client.chat.completions.create(model="default", messages=said("hello"), stream=True, **options)
        chunks = [chunk async for chunk in stream]
    assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == ([True] if wanted else [])


async def test_calls_a_tool_and_answers_after_its_result(echo: Bridge) -> None:
    async with echo.openai() as client:
        messages = said('tool: ls {"path": "."}')
        first = await client.chat.completions.create(model="default", messages=messages, tools=[TOOL])
        assert first.choices[0].finish_reason == "tool_calls"
        call: Any = (first.choices[0].message.tool_calls or [])[0]
        assert (call.function.name, call.function.arguments) == ("ls", '{"path": "."}')
        messages += [
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "SOUL.md"},
        ]
        second = await client.chat.completions.create(model="default", messages=messages, tools=[TOOL])
    assert second.choices[0].message.content == "The tool answered: SOUL.md"


async def test_streams_a_tool_call(echo: Bridge) -> None:
    async with echo.openai() as client:
        stream = await client.chat.completions.create(
            model="default", messages=said("tool: ls"), tools=[TOOL], stream=True
        )
        calls = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls if call.function] == [("ls", "{}")]


async def test_lists_its_one_model(echo: Bridge) -> None:
    async with echo.openai() as client:
        assert [model.id async for model in client.models.list()] == ["default"]
        assert (await client.models.retrieve("default")).id == "default"


async def test_errors_are_those_of_the_client(echo: Bridge) -> None:
    async with echo.openai() as client:
        with pytest.raises(openai.InternalServerError, match="asked to"):
            await client.chat.completions.create(model="default", messages=said("error 500"))
        with pytest.raises(openai.NotFoundError, match="called `default`"):
            await client.chat.completions.create(model="gpt-5", messages=said("hello"))
        with pytest.raises(openai.NotFoundError, match=r"embeddings is not served.*chat completions"):
            await client.embeddings.create(model="default", input="hello")
        with pytest.raises(openai.NotFoundError, match=r"responses is not served"):
            await client.responses.create(model="default", input="hello")
        with pytest.raises(openai.NotFoundError, match=r"audio/transcriptions is not served"):
            await client.audio.transcriptions.create(model="default", file=("a.ogg", b"OggS"))
    async with echo.openai(api_key="sk-zaki-abcdefghij-" + "A" * 43) as client:
        with pytest.raises(openai.AuthenticationError, match="not valid here"):
            await client.chat.completions.create(model="default", messages=said("hello"))
