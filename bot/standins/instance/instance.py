"""The stand-in as a whole: two listeners, a spool, turns."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot.credentials import same
from bot.standins.instance.botapi import BotApi, TelegramFailed
from bot.standins.instance.config import InstanceConfig
from bot.standins.instance.cron import CATCH_UP_AFTER, Cron
from bot.standins.instance.rpc import AdminRpc
from bot.standins.instance.spool import Spool
from bot.standins.instance.suspension import Suspension
from bot.standins.instance.turns import Turns
from bot.standins.serving import running

_log = structlog.get_logger(__name__)
_VERSION = "2026.9.6"


class StandInInstance:
    """A gateway at an address, with the ports that its configuration names.

    It listens at `address` and calls from it, so several stand-ins with addresses of the loopback network can live on
    one machine as instances do on their bridge; None: every address. `folder` keeps the configuration and what was
    taken; None: nothing outlives the object. `catch_up_after`: seconds after a start at which missed jobs run.
    """

    def __init__(
        self,
        config: InstanceConfig,
        address: str | None = None,
        folder: Path | None = None,
        catch_up_after: float = CATCH_UP_AFTER,
    ) -> None:
        self.config = config
        self._address = address
        self._folder = folder
        self._spool = Spool(folder / "standin.sqlite3" if folder is not None else None)
        transport = httpx.AsyncHTTPTransport(local_address=address)
        self._http = httpx.AsyncClient(transport=transport, trust_env=False)
        self._turns = Turns(lambda: self.config, self._spool, self._http)
        jobs = folder / "cron.sqlite3" if folder is not None else None
        self._cron = Cron(lambda: self.config, jobs, self._http, catch_up_after)
        self.suspension = Suspension(lambda: self._turns.active + self._cron.active, self._turns.ring)
        self._rpc = AdminRpc(lambda: self.config, self._apply, self.suspension, self._cron, self._turns.brain.sessions)
        self._registered = False
        self._started = time.monotonic()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StandInInstance]:
        """Serve while the block runs. Raises OSError where a port is taken."""
        host = self._address or "0.0.0.0"  # noqa: S104
        async with AsyncExitStack() as stack:
            stack.callback(self._spool.close)
            stack.callback(self._cron.close)
            await stack.enter_async_context(self._http)
            await stack.enter_async_context(running(self._webhook_app(), host, self.config.webhook_port))
            await stack.enter_async_context(running(self._gateway_app(), host, self.config.gateway_port))
            work = asyncio.gather(self._register(), self._turns.run(self._may_run), self._cron.run(self._may_run))
            try:
                yield self
            finally:
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    def _may_run(self) -> bool:
        return not self.suspension.prepared

    def _webhook_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route(self.config.webhook_path, self._webhook, methods=["POST"]),
            ]
        )

    def _gateway_app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/startupz", self._startupz),
                Route("/api/v1/admin/rpc", self._rpc.serve, methods=["POST"]),
            ]
        )

    async def _register(self) -> None:
        """What OpenClaw tells Telegram at its start; it is ready when its webhook is known."""
        api = BotApi(self._http, self.config.api_root, self.config.bot_token)
        webhook = {"url": f"https://zaki.invalid{self.config.webhook_path}", "secret_token": self.config.webhook_secret}
        while not self._registered:
            try:
                await api.call("getMe", {})
                await api.call("setWebhook", webhook)
                self._registered = True
                await api.call("deleteMyCommands", {})
                await api.call("setMyCommands", {"commands": [{"command": "new", "description": "Start anew."}]})
            except TelegramFailed as error:
                _log.warning("not registered", reason=str(error))
                await asyncio.sleep(1.0)

    async def _webhook(self, request: Request) -> Response:
        secret = request.headers.get("x-telegram-bot-api-secret-token", "")
        if not same(secret, self.config.webhook_secret):
            return PlainTextResponse("unauthorized", 401)
        try:
            update = json.loads(await request.body())
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        if not isinstance(update, dict) or not isinstance(update.get("update_id"), int):
            return PlainTextResponse("", 500)
        if self._spool.take(update):
            self._turns.ring()
        return PlainTextResponse("", headers={"x-openclaw-delivery-accepted": "durable"})

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"ok": True, "status": "live"})

    async def _readyz(self, _request: Request) -> Response:
        failing = ["gateway-draining"] if self.suspension.prepared else [] if self._registered else ["telegram"]
        body = {"ready": not failing, "failing": failing, "uptimeMs": self._uptime()}
        return JSONResponse(body, 503 if failing else 200)

    async def _startupz(self, _request: Request) -> Response:
        prepared = self.suspension.prepared
        body = {"ok": not prepared, "status": "draining" if prepared else "started", "version": _VERSION}
        return JSONResponse({**body, "uptimeMs": self._uptime()}, 503 if prepared else 200)

    def _uptime(self) -> int:
        return int((time.monotonic() - self._started) * 1000)

    def _apply(self, config: InstanceConfig) -> None:
        self.config = config
        if self._folder is not None:
            (self._folder / "openclaw.json").write_text(json.dumps(config.raw))
