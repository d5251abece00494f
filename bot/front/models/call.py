"""One model call of an instance, from its admission to the settled account."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bot.front import metrics
from bot.front.inbox import DATABASE_ERRORS
from bot.front.models import events
from bot.front.models.breaker import Attempt, BreakerOpen
from bot.front.models.errors import ModelError, provider_failed, unavailable
from bot.front.models.ledger import Entry
from bot.front.models.meter import Meter, Tokens, is_usage_alone
from bot.front.models.requests import ChatRequest
from bot.front.models.room import Held
from bot.front.models.state import ModelsState

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

#: What is written down where the instance went away before the answer ended; nobody gets it.
CLIENT_GONE = 499


class ClientGone(Exception):
    """The instance has closed its connection."""


class Call:
    """A call that has been entered in the ledger; :meth:`respond` is called once and sees to its end."""

    def __init__(self, state: ModelsState, asked: ChatRequest, entry: Entry, held: Held) -> None:
        self._state = state
        self._asked = asked
        self._entry = entry
        self._held = held
        self._meter = Meter(asked.prompt_estimate)
        self._started = time.monotonic()
        self._first_byte: float | None = None
        self._attempt: Attempt | None = None
        self._answer: httpx.Response | None = None
        #: The status for the account; until somebody says otherwise the instance went away.
        self._status = CLIENT_GONE

    async def respond(self, request: Request) -> Response:
        """Ask the provider and answer the instance, errors included."""
        streams = False
        try:
            self._attempt = self._state.breaker.attempt()
            answer = self._answer = await _unless_gone(request, self._state.upstream.post(self._asked))
            self._held.release()
            if answer.status_code != 200:
                raise await self._refused(answer)
            if not self._asked.stream:
                return await self._whole(request, answer)
            response = self._streamed(answer)
            streams = True
            return response
        except BreakerOpen as refusal:
            down = unavailable("The model's provider is down; try again soon.", refusal.retry_after)
            return self._note(down).response()
        except (httpx.HTTPError, httpx.StreamError) as error:
            return self._broken(error).response()
        except ModelError as error:
            return self._note(error).response()
        except ClientGone:
            return Response(status_code=CLIENT_GONE)
        except Exception:
            self._status = 500
            raise
        finally:
            if not streams:
                self.end()

    def end(self, content: AsyncGenerator[bytes, None] | None = None) -> None:
        """Let go of the provider and settle the account, in the background; `content` is what was being streamed."""
        self._held.release()
        self._state.end(self._entry.instance_id)
        if self._attempt is not None:
            self._attempt.abandoned()
        self._state.in_background(self._settle(content))

    async def _refused(self, answer: httpx.Response) -> ModelError:
        refusal = await self._state.upstream.refusal(answer)
        if self._attempt is not None:
            if refusal.concerns_all:
                self._attempt.failed()
            else:
                self._attempt.succeeded()
        return refusal.error

    async def _whole(self, request: Request, answer: httpx.Response) -> Response:
        body = self._state.upstream.scrub(await _unless_gone(request, answer.aread()))
        self._arrived()
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise provider_failed("The model's provider answered with something that is no JSON object.")
        self._meter.see(data)
        self._status = 200
        return Response(body, media_type="application/json")

    def _streamed(self, answer: httpx.Response) -> Response:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise provider_failed("The model's provider answered without a stream where one was asked for.")
        return _CallResponse(self, self._events(answer))

    async def _events(self, answer: httpx.Response) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(events.split(answer.aiter_bytes())) as arriving:
                async for event in arriving:
                    self._arrived()
                    data = events.data_of(event)
                    if data is not None:
                        self._meter.see(data)
                        if is_usage_alone(data) and not self._asked.wants_usage:
                            continue
                    yield self._state.upstream.scrub(event)
            self._status = 200
        except (httpx.HTTPError, httpx.StreamError) as error:
            # The status line is gone; clients take an event with an error for one.
            yield events.event_of(self._broken(error).body())
        except events.EventTooLarge:
            yield events.event_of(
                self._note(provider_failed("The model's provider sent an event without an end.")).body()
            )

    def _arrived(self) -> None:
        if self._first_byte is None:
            self._first_byte = time.monotonic() - self._started
            metrics.MODEL_FIRST_BYTE_SECONDS.observe(self._first_byte)
            if self._attempt is not None:
                self._attempt.succeeded()

    def _broken(self, error: Exception) -> ModelError:
        if self._attempt is not None:
            self._attempt.failed()
        return self._note(self._state.upstream.no_answer(error))

    def _note(self, error: ModelError) -> ModelError:
        self._status = error.status
        return error

    def _tokens(self) -> Tokens:
        """Nothing where the provider did nothing; the provider's count or our estimate otherwise."""
        if self._first_byte is None and self._status != CLIENT_GONE:
            return Tokens(0, 0, estimated=False)
        return self._meter.tokens

    async def _settle(self, content: AsyncGenerator[bytes, None] | None) -> None:
        if content is not None:
            await content.aclose()
        if self._answer is not None:
            await self._answer.aclose()
        tokens = self._tokens()
        metrics.MODEL_REQUESTS.labels("cancelled" if self._status == CLIENT_GONE else str(self._status)).inc()
        metrics.MODEL_TOKENS.labels("prompt").inc(tokens.prompt)
        metrics.MODEL_TOKENS.labels("completion").inc(tokens.completion)
        try:
            await self._state.ledger.settle(
                self._entry,
                tokens,
                first_byte=self._first_byte,
                duration=time.monotonic() - self._started,
                status=self._status,
            )
        except DATABASE_ERRORS:
            # What was entered before the call stays: the estimate of its prompt.
            _log.exception("a model call could not be settled", usage=self._entry.usage_id)


class _CallResponse(StreamingResponse):
    """Ends its call however the response ends, even before its first byte."""

    def __init__(self, call: Call, content: AsyncGenerator[bytes, None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._call = call
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._call.end(self._content)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The work's result; cancels it and raises :class:`ClientGone` when the instance hangs up."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
