"""The front: its parts, the two ASGI apps over them, and the tasks that run behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import func, select

from bot.disk import lack_of_room
from bot.front import botapi, metrics, models, registration
from bot.front.announcements import Announcer
from bot.front.connections import BridgeProtocol
from bot.front.context import FrontContext
from bot.front.delivery import Delivery
from bot.front.inbox import DATABASE_ERRORS, Inbox, reason
from bot.front.ingest import webhook_router
from bot.front.outbox import Outbox
from bot.front.polling import Poller
from bot.front.router import Router
from bot.front.telegram import TelegramApi
from bot.store.tables import ContainerState, Instance

_log = structlog.get_logger(__name__)

#: Seconds before a task that failed is started again; doubled each time.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
#: Seconds within which a database that works answers.
_PING_WITHIN = 5.0
#: Seconds that requests under way get when the service stops.
_GRACE = 10


class Front:
    """Everything between Telegram and the instances."""

    def __init__(self, context: FrontContext, delivery: Delivery | None = None) -> None:
        """`delivery`: another way to the instances than their usual port, for tests."""
        self.context = context
        self.api = TelegramApi(context)
        self.outbox = Outbox(context, self.api)
        self.models = models.ModelsState(context, self.outbox)
        self.router = Router(context, self.outbox, lambda: self.models.open, delivery)
        self.announcer = Announcer(context, self.outbox)
        self.inbox = Inbox(context, self.router.wake)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Tasks that are failing now, and why.
        self._failing: dict[str, str] = {}

    async def start(self) -> None:
        """Start what runs in the background."""
        self._keep("outbox", self.outbox.run)
        self._keep("router", self.router.run)
        self._keep("announcements", self.announcer.run)
        self._keep("sweep", self.inbox.sweep)
        if self.context.settings.public_url is None:
            self._keep("polling", Poller(self.api, self.inbox).run)
        else:
            self._once("webhook", lambda: registration.register_webhook(self.context, self.api))
        self._once("profile", lambda: registration.describe(self.api))

    async def stop(self) -> None:
        """Stop it; whatever is not done is in the database, and done after the next start."""
        # In the order in which they feed each other, so that what one leaves the next still takes.
        for name in list(self._tasks):
            if name != "outbox":
                self._tasks[name].cancel()
        await asyncio.gather(*(task for name, task in self._tasks.items() if name != "outbox"), return_exceptions=True)
        await self.router.close()
        await self.models.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def checks(self) -> dict[str, str]:
        """`ok`, or why not, for the database, the disk and each task that runs behind."""
        found = {name: self._failing.get(name, "ok") for name in self._tasks}
        found["disk"] = lack_of_room(self.context.settings.state) or "ok"
        if self.context.database.trouble.reason is not None:
            return {"database": self.context.database.trouble.reason, **found}
        try:
            async with asyncio.timeout(_PING_WITHIN):
                await self.context.database.ping()
        except (TimeoutError, *DATABASE_ERRORS) as error:
            return {"database": reason(error), **found}
        return {"database": "ok", **found}

    def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run for as long as the front does."""

        async def supervise() -> None:
            pause = _FIRST_PAUSE
            while True:
                try:
                    await run()
                except Exception as error:
                    if self.context.database.trouble.reason is None:
                        _log.exception("a part of the front failed and is started again", part=name)
                    self._failing[name] = f"failed: {type(error).__name__}"
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._failing.pop(name, None)

        self._tasks[name] = asyncio.create_task(supervise(), name=name)

    def _once(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run to its end."""

        async def attempt() -> None:
            try:
                await run()
            except Exception as error:
                _log.exception("a part of the front's start failed", part=name)
                self._failing[name] = f"failed: {type(error).__name__}"

        self._tasks[name] = asyncio.create_task(attempt(), name=name)


def public_app(front: Front) -> FastAPI:
    """What the Internet may reach, behind a TLS proxy: the webhook, and the operator's checks."""
    app = _bare_app(front)
    app.include_router(webhook_router(front.context, front.inbox))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        checks = await front.checks()
        ready = all(result == "ok" for result in checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)

    @app.get("/metrics")
    async def show_metrics() -> Response:
        await _count_instances(front.context)
        return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

    return app


def bridge_app(front: Front) -> FastAPI:
    """What instances may reach: the multiplexer and the model; they are told apart by address and credential."""
    app = _bare_app(front)
    app.include_router(botapi.router(front.context, front.outbox, front.api))
    app.include_router(models.router(front.context, front.models))
    return app


def uvicorn_config(app: FastAPI, *, bridge: bool = False) -> uvicorn.Config:
    """How both apps are served: without access logs, whose paths hold tokens, and believing no proxy's headers.

    `bridge`: whoever connects is an instance, whose connections are bounded; the other side has a proxy before it.
    """
    return uvicorn.Config(
        app,
        http=BridgeProtocol if bridge else "auto",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE,
    )


def _bare_app(front: Front) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def unavailable(_request: Request, error: Exception) -> Response:
        if front.context.database.trouble.reason is None:
            _log.error("a request found the database down", reason=reason(error))
        return JSONResponse({"ok": False, "description": "The database is down."}, status_code=503)

    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, unavailable)
    return app


async def _count_instances(context: FrontContext) -> None:
    query = select(Instance.container, func.count()).group_by(Instance.container)
    async with context.database.read() as session:
        found = {ContainerState(state): count for state, count in await session.execute(query)}
    for state in ContainerState:
        metrics.INSTANCES.labels(state).set(found.get(state, 0))
