"""The stand-in for an OpenClaw gateway keeps to what the real one was seen to do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from bot.credentials import FrontKey
from bot.provisioner.openclaw import GatewayConfig, Owner, render_config
from bot.standins.instance import InstanceConfig, StandInInstance
from bot.standins.model import echo_app
from bot.standins.serving import running

OWNER = 42
GATEWAY_TOKEN = "gateway-token"
#: Far from the addresses that other tests take, and different in each process.
ADDRESS = str(IPv4Address("127.1.0.0") + os.getpid() % 60_000)


@dataclass
class Front:
    """A Bot API that notes what it is told, with the echo model beside it."""

    url: str = ""
    calls: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    #: What the next calls of a method are answered instead of success.
    answers: dict[str, list[Response]] = field(default_factory=dict)

    async def serve(self, request: Request) -> Response:
        """Note a call and answer it."""
        method = request.path_params["method"]
        assert request.client is not None
        self.calls.append((method, json.loads(await request.body()), request.client.host))
        waiting = self.answers.get(method)
        if waiting:
            return waiting.pop(0)
        return JSONResponse({"ok": True, "result": {"message_id": len(self.calls)}})

    def sent(self) -> list[str]:
        """Texts that were sent, also where they were refused."""
        return [params["text"] for method, params, _ in self.calls if method == "sendMessage"]

    def counts(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(method for method, _, _ in self.calls)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    botapi = Route("/telegram/bot{token}/{method}", front.serve, methods=["POST"])
    async with running(Starlette(routes=[botapi, Mount("/llm", echo_app())])) as url:
        front.url = url
        yield front


@pytest.fixture
def config(front: Front) -> InstanceConfig:
    """What the provisioner would give to an instance."""
    credentials = FrontKey(b"k" * 32).derive("u-abcdefghij", 1)
    owner = Owner(telegram_id=OWNER, call_name=None, timezone=None)
    return InstanceConfig.parse(render_config(GatewayConfig(owner, credentials, GATEWAY_TOKEN, front.url)))


@pytest.fixture
async def instance(config: InstanceConfig) -> AsyncIterator[StandInInstance]:
    async with StandInInstance(config, ADDRESS).running() as instance:
        yield instance


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


class Host:
    """Speaks to the instance as the front and the provisioner do."""

    def __init__(self, client: httpx.AsyncClient, config: InstanceConfig) -> None:
        self._client = client
        self._config = config

    async def deliver(self, update_id: int, text: str, message_id: int | None = None, sender: int = OWNER) -> None:
        """Hand a message over; fails where the instance does not take it durably."""
        person = {"id": sender, "is_bot": False, "first_name": "Ada"}
        chat = {"id": sender, "type": "private"}
        message = {"message_id": message_id or update_id, "date": 1, "chat": chat, "from": person, "text": text}
        answer = await self.post({"update_id": update_id, "message": message})
        assert (answer.status_code, answer.headers.get("x-openclaw-delivery-accepted")) == (200, "durable")

    async def post(self, update: object, secret: str | None = None) -> httpx.Response:
        """POST something to the webhook."""
        header = {"X-Telegram-Bot-Api-Secret-Token": secret or self._config.webhook_secret}
        return await self._client.post(f"http://{ADDRESS}:8787/telegram-webhook", json=update, headers=header)

    async def get(self, path: str) -> tuple[int, Any]:
        """A health page."""
        answer = await self._client.get(f"http://{ADDRESS}:18789{path}")
        return answer.status_code, answer.json()

    async def rpc(self, method: str, params: object, token: str | None = None) -> tuple[int, Any]:
        """An admin RPC call."""
        answer = await self._client.post(
            f"http://{ADDRESS}:18789/api/v1/admin/rpc",
            json={"method": method, "params": params},
            headers={"Authorization": f"Bearer {token or GATEWAY_TOKEN}"},
        )
        return answer.status_code, answer.json()


@pytest.fixture
def host(client: httpx.AsyncClient, config: InstanceConfig) -> Host:
    return Host(client, config)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 20 seconds at most."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_answers_with_the_models_words(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.deliver(1, "hello <b>")
    await host.deliver(2, "what did I say")
    await until(lambda: len(front.sent()) == 2)
    assert front.sent() == ["You wrote: hello &lt;b&gt;", "Before this you wrote: hello &lt;b&gt;"]
    assert front.counts()["sendChatAction"] == 2
    assert {address for _, _, address in front.calls} == {ADDRESS}
    await until(lambda: front.counts()["setMyCommands"] == 1)


async def test_is_ready_when_telegram_knows_its_webhook(config: InstanceConfig, front: Front, host: Host) -> None:
    front.answers["setWebhook"] = [JSONResponse({"ok": False, "description": "no"}, 400)]
    async with StandInInstance(config, ADDRESS).running():
        await until(lambda: front.counts()["setWebhook"] == 1)
        assert (await host.get("/healthz")) == (200, {"ok": True, "status": "live"})
        status, body = await host.get("/readyz")
        assert (status, body["ready"]) == (503, False)
        await until(lambda: front.counts()["setMyCommands"] == 1)
        status, body = await host.get("/readyz")
        assert (status, body["ready"]) == (200, True)


async def test_long_answers_are_split(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.deliver(1, "long")
    await until(lambda: len(front.sent()) == 2)
    assert "".join(front.sent()).startswith("Sentence 1 of 120")
    assert "".join(front.sent()).endswith("today.")


async def test_takes_each_update_once(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.deliver(1, "one")
    await host.deliver(1, "one")
    await host.deliver(2, "one", message_id=1)
    await host.deliver(3, "two")
    await until(lambda: "You wrote: two" in front.sent())
    assert front.sent() == ["You wrote: one", "You wrote: two"]


async def test_answers_nobody_but_its_owner(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.deliver(1, "hello", sender=7)
    await host.deliver(2, "mine")
    await until(lambda: bool(front.sent()))
    assert front.sent() == ["You wrote: mine"]


async def test_refuses_a_wrong_secret_and_odd_bodies(instance: StandInInstance, host: Host) -> None:
    assert (await host.post({"update_id": 1}, secret="wrong")).status_code == 401
    assert (await host.post([])).status_code == 500
    assert (await host.post({"foo": 1})).status_code == 500


async def test_an_odd_update_does_not_stop_it(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.post(
        {"update_id": 1, "message": {"message_id": 1, "chat": {"id": OWNER}, "from": {"id": OWNER}, "photo": 3}}
    )
    await host.post({"update_id": 2, "callback_query": {}})
    await host.deliver(3, "hello")
    await until(lambda: "You wrote: hello" in front.sent())


async def test_a_send_that_gets_a_502_is_never_tried_again(instance: StandInInstance, front: Front, host: Host) -> None:
    front.answers["sendMessage"] = [Response(status_code=502)]
    await host.deliver(1, "one")
    await host.deliver(2, "two")
    await until(lambda: "You wrote: two" in front.sent())
    assert front.sent() == ["You wrote: one", "You wrote: two"]


async def test_a_send_that_gets_429s_is_tried_three_times(instance: StandInInstance, front: Front, host: Host) -> None:
    def limited() -> Response:
        return JSONResponse({"ok": False, "error_code": 429, "parameters": {"retry_after": 0}}, 429)

    front.answers["sendMessage"] = [limited() for _ in range(5)]
    await host.deliver(1, "one")
    await until(lambda: len(front.sent()) == 3)
    await host.deliver(2, "two")
    await until(lambda: len(front.sent()) == 6)
    assert front.sent() == ["You wrote: one"] * 3 + ["You wrote: two"] * 3


async def test_suspended_it_takes_updates_and_runs_nothing(instance: StandInInstance, front: Front, host: Host) -> None:
    await until(lambda: front.counts()["setMyCommands"] == 1)
    _, prepared = await host.rpc("gateway.suspend.prepare", {"requestId": "sleep-1"})
    assert prepared["payload"]["status"] == "ready"
    identifier = prepared["payload"]["suspensionId"]
    assert (await host.get("/healthz"))[0] == 200
    assert (await host.get("/readyz"))[0] == 503
    assert (await host.get("/startupz"))[0] == 503
    assert (await host.rpc("config.get", {}))[0] == 503
    await host.deliver(1, "hello")

    status, conflict = await host.rpc("gateway.suspend.prepare", {"requestId": "another"})
    assert (status, conflict["error"]["code"]) == (503, "UNAVAILABLE")
    assert (await host.rpc("gateway.suspend.resume", {"suspensionId": "another"}))[0] == 400
    assert (await host.rpc("gateway.suspend.resume", {}))[0] == 400
    _, status_of = await host.rpc("gateway.suspend.status", {"suspensionId": identifier})
    assert status_of["payload"]["status"] == "ready"
    assert front.counts()["sendChatAction"] == 0

    assert (await host.rpc("gateway.suspend.resume", {"suspensionId": identifier}))[1]["payload"]["resumed"] is True
    await until(lambda: front.sent() == ["You wrote: hello"])
    assert (await host.get("/readyz"))[0] == 200
    assert (await host.rpc("gateway.suspend.resume", {"suspensionId": identifier}))[1]["payload"]["resumed"] is False


async def test_a_running_turn_makes_it_busy(instance: StandInInstance, front: Front, host: Host) -> None:
    await host.deliver(1, "count to 3")
    await until(lambda: front.counts()["sendChatAction"] == 1)
    _, busy = await host.rpc("gateway.suspend.prepare", {"requestId": "sleep-1"})
    assert (busy["payload"]["status"], busy["payload"]["activeCount"]) == ("busy", 1)
    await until(lambda: bool(front.sent()))


async def test_patches_its_configuration_while_it_runs(
    instance: StandInInstance, config: InstanceConfig, front: Front, host: Host
) -> None:
    async def patch(change: object, base: str, **more: object) -> tuple[int, Any]:
        return await host.rpc("config.patch", {"raw": json.dumps(change), "baseHash": base, **more})

    _, current = await host.rpc("config.get", {})
    base = current["payload"]["hash"]
    assert config.bot_token not in json.dumps(current)
    assert (await patch({}, "stale"))[0] == 400
    assert "Unrecognized key" in (await patch({"nonsense": 1}, base))[1]["error"]["message"]
    owners = {"channels": {"telegram": {"allowFrom": ["7"]}}}
    assert "replacePaths" in (await patch(owners, base))[1]["error"]["message"]
    status, patched = await patch(owners, base, replacePaths=["channels.telegram.allowFrom"])
    assert status == 200
    assert patched["payload"]["hash"] != base
    await host.deliver(1, "hello", sender=7)
    await until(lambda: front.sent() == ["You wrote: hello"])

    token = {"gateway": {"auth": {"token": "rotated"}}}
    assert (await patch(token, patched["payload"]["hash"]))[0] == 200
    assert (await host.rpc("health", {}))[0] == 401
    assert (await host.rpc("health", {}, token="rotated"))[0] == 200


async def test_rpc_refuses_what_it_does_not_know(instance: StandInInstance, host: Host) -> None:
    status, body = await host.rpc("nonsense", {})
    assert (status, body["error"]["message"]) == (400, "admin HTTP RPC method is not supported: nonsense")
    assert (await host.rpc("health", {}, token="wrong"))[0] == 401


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The stand-in as a program of its own."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot.standins.instance",
        env={**os.environ, "OPENCLAW_CONFIG_PATH": str(folder / "openclaw.json"), "STANDIN_ADDRESS": ADDRESS},
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_what_it_took_outlives_kill_9(config: InstanceConfig, front: Front, host: Host, tmp_path: Path) -> None:
    (tmp_path / "openclaw.json").write_text(json.dumps(config.raw))
    async with process(tmp_path) as first:
        await until(lambda: front.counts()["setMyCommands"] == 1)
        await host.rpc("gateway.suspend.prepare", {"requestId": "so that it does not answer"})
        await host.deliver(1, "hello")
        first.kill()
    assert front.sent() == []
    async with process(tmp_path) as second:
        await until(lambda: front.sent() == ["You wrote: hello"])
        second.terminate()
        assert await second.wait() == 0


@pytest.mark.parametrize("text", ["{", "{}", '{"nonsense": 1}', None])
async def test_a_configuration_that_cannot_be_used_is_exit_78(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "openclaw.json").write_text(text)
    async with process(tmp_path) as started:
        assert await started.wait() == 78
