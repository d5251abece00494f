"""The model behind a turn: asked as OpenClaw asks it, in its envelope, as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx

from bot.standins.instance.config import InstanceConfig

#: Seconds between tries after a 5xx or a refused connection; OpenClaw's own pauses add up to more than a minute.
_PAUSES = (0.5, 1.0, 2.0, 4.0)
_HISTORY = 40


class ModelFailed(Exception):
    """No answer came from the model; the message says why."""


class Brain:
    """Keeps the conversation and asks the model."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.begin_anew()

    def begin_anew(self) -> None:
        """An empty session, as at the start and after `/new`."""
        self._history: list[dict[str, Any]] = []
        self._session = str(uuid4())
        self._tokens = 0

    def sessions(self) -> list[dict[str, Any]]:
        """The session as `status` lists it; one without an answer of the model has no tokens."""
        return [{"sessionId": self._session, **({"outputTokens": self._tokens} if self._tokens else {})}]

    async def answer(self, config: InstanceConfig, words: str, sender: dict[str, Any]) -> str:
        """The model's answer to a person's words; raises :class:`ModelFailed`."""
        asked = {"role": "user", "content": _envelope(words, sender)}
        text = await self._ask(config, [*self._history, asked, _CONTEXT])
        self._tokens += len(text.split())
        self._history = [*self._history, asked, {"role": "assistant", "content": text}][-_HISTORY:]
        return text

    async def answer_prompt(self, config: InstanceConfig, prompt: str) -> str:
        """The model's answer to a prompt of OpenClaw's own; raises :class:`ModelFailed`."""
        return await self._ask(config, [{"role": "user", "content": prompt}, _CONTEXT])

    async def _ask(self, config: InstanceConfig, messages: Sequence[dict[str, Any]]) -> str:
        for pause in (*_PAUSES, None):
            try:
                return await self._stream(config, messages)
            except (httpx.TransportError, _Unavailable) as error:
                if pause is None:
                    raise ModelFailed(str(error) or type(error).__name__) from None
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _stream(self, config: InstanceConfig, messages: Sequence[dict[str, Any]]) -> str:
        body = {
            "model": config.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 4096,
        }
        headers = {"Authorization": f"Bearer {config.model_key}"}
        url = f"{config.model_url}/chat/completions"
        text = ""
        async with self._http.stream("POST", url, json=body, headers=headers, timeout=120.0) as answer:
            if answer.status_code >= 500:
                raise _Unavailable(f"the model answered {answer.status_code}")
            if answer.status_code != 200:
                raise ModelFailed(f"the model answered {answer.status_code}")
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    data = json.loads(line.removeprefix("data: "))
                    if "error" in data:
                        raise _Unavailable(str(data["error"].get("message")))
                    text += "".join(choice["delta"].get("content") or "" for choice in data.get("choices", ()))
        return text


class _Unavailable(Exception):
    """Another try may succeed."""


def _envelope(words: str, sender: dict[str, Any]) -> str:
    info = {"sender": {"id": str(sender.get("id")), "name": sender.get("first_name")}}
    block = f"Conversation info: ⟦openclaw:ctx⟧\n```json\n{json.dumps(info)}\n```"
    return f"[{datetime.now(UTC):%a %Y-%m-%d %H:%M} UTC] {block}\n\n{words}"


_CONTEXT_TEXT = "\n".join(
    ["<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>", "Active exec sessions:", "none", "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"]
)
_CONTEXT = {"role": "user", "content": [{"type": "text", "text": _CONTEXT_TEXT}]}
