"""A member's first turn: it is taken for done only once a model has answered and the session is a new one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from bot.credentials import FrontCredentials
from bot.endpoints import GATEWAY_PORT, WEBHOOK_PORT
from bot.nobody import NOBODY
from bot.provisioner.gateway import Gateway
from bot.provisioner.pool import WarmupFailed, rehearsal, warm

ID = "u-abcdefghij"
CREDENTIALS = FrontCredentials(bot_token="1:token", model_key="key", webhook_secret="secret")


def answer(status: int, body: object) -> httpx.Response:
    """One that is read as it comes."""
    return httpx.Response(status, stream=httpx.ByteStream(json.dumps(body).encode()))


@dataclass
class Member:
    """An OpenClaw that takes its time: it answers, forgets and comes to rest only after so many looks."""

    #: Looks until the model's answer is there, until it is idle, and until a new session has begun; None: never.
    answers_after: int | None = 2
    rests_after: int = 2
    forgets_after: int | None = 2
    said: list[str] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    session: str = "before"
    tokens: int = 0
    looks: int = 0
    busy: int = 0
    #: What it was told while it was not idle.
    interrupted: list[str] = field(default_factory=list)

    def serve(self, request: httpx.Request) -> httpx.Response:
        """Be the gateway, or its webhook."""
        if request.url.port == WEBHOOK_PORT:
            return self._take(request)
        assert request.url.port == GATEWAY_PORT
        body = json.loads(request.content)
        return answer(200, {"ok": True, "payload": self._call(body["method"], body["params"])})

    def _take(self, request: httpx.Request) -> httpx.Response:
        if request.headers["x-telegram-bot-api-secret-token"] != CREDENTIALS.webhook_secret:
            return answer(401, None)
        update = json.loads(request.content)
        self.updates.append(update)
        self.said.append(update["message"]["text"])
        if self.busy:
            self.interrupted.append(self.said[-1])
        self.looks, self.busy = 0, self.rests_after
        return answer(200, None)

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "status":
                self._go_on()
                recent = [{"key": "agent:main:main", "sessionId": self.session, "outputTokens": self.tokens or None}]
                return {"sessions": {"recent": recent if self.said else []}}
            case "gateway.suspend.prepare":
                if self.busy:
                    self.busy -= 1
                    return {"status": "busy", "reason": "a turn", "blockers": []}
                return {"status": "ready", "suspensionId": f"of {params['requestId']}"}
            case "gateway.suspend.resume":
                return {"ok": True}
        raise AssertionError(method)

    def _go_on(self) -> None:
        self.looks += 1
        if self.said[-1:] == ["Hello"] and self.answers_after is not None and self.looks > self.answers_after:
            self.tokens = 5
        if self.said[-1:] == ["/new"] and self.forgets_after is not None and self.looks > self.forgets_after:
            self.session, self.tokens = "after", 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "STEP_WITHIN", 2.0)
    monkeypatch.setattr(rehearsal, "_ASK_EVERY", 0.01)


Serve = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
async def gateway_of() -> AsyncIterator[Callable[[Serve], Gateway]]:
    """The gateway that answers so."""
    clients: list[httpx.AsyncClient] = []

    def make(serve: Serve) -> Gateway:
        clients.append(httpx.AsyncClient(transport=httpx.MockTransport(serve)))
        return Gateway(clients[-1], "127.0.0.9", "token")

    yield make
    for client in clients:
        await client.aclose()


async def test_a_turn_as_nobody_and_then_a_new_session(gateway_of: Callable[[Serve], Gateway]) -> None:
    member = Member()
    await warm(gateway_of(member.serve), CREDENTIALS, ID)
    assert member.said == ["Hello", "/new"]
    assert member.interrupted == []
    assert (member.session, member.tokens, member.busy) == ("after", 0, 0)
    senders = {(update["message"]["from"]["id"], update["message"]["chat"]["id"]) for update in member.updates}
    assert senders == {(NOBODY, NOBODY)}
    numbers = [update["update_id"] for update in member.updates]
    assert len(set(numbers)) == 2
    # Telegram's own are far above, and a number that was seen would be dropped.
    assert all(0 < number <= 1_000_000 for number in numbers)


async def test_one_that_was_cut_off_after_its_turn_only_forgets_it(gateway_of: Callable[[Serve], Gateway]) -> None:
    member = Member(said=["Hello"], tokens=5, answers_after=0)
    await warm(gateway_of(member.serve), CREDENTIALS, ID)
    assert member.said == ["Hello", "/new"]
    assert member.tokens == 0


@pytest.mark.parametrize(
    ("member", "words"),
    [(Member(answers_after=None), "answer"), (Member(forgets_after=None), "new session")],
    ids=["no answer", "no new session"],
)
async def test_one_that_does_not_get_through_is_not_warm(
    gateway_of: Callable[[Serve], Gateway], member: Member, words: str
) -> None:
    with pytest.raises(WarmupFailed, match=words):
        await warm(gateway_of(member.serve), CREDENTIALS, ID)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"ok": True, "payload": {}}),
        (200, {"ok": True, "payload": {"sessions": {"recent": "none"}}}),
        (500, "broken"),
    ],
    ids=["no sessions", "no list", "broken"],
)
async def test_one_that_does_not_say_what_it_remembers_is_not_warm(
    gateway_of: Callable[[Serve], Gateway], status: int, body: object
) -> None:
    with pytest.raises(WarmupFailed):
        await warm(gateway_of(lambda _request: answer(status, body)), CREDENTIALS, ID)
