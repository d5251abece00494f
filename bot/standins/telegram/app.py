"""The simulator as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from bot.standins.telegram.bot_http import bot_router
from bot.standins.telegram.clock import Clock
from bot.standins.telegram.config import SimulatorConfig
from bot.standins.telegram.page import page_router
from bot.standins.telegram.sim_http import sim_router
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.userside import ImpossibleError, UnknownError


def create_app(config: SimulatorConfig, clock: Clock | None = None) -> FastAPI:
    """The Bot API, the control API under `/sim` and the chat page; the state is `app.state.simulator`."""
    simulator = Simulator(config, clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await simulator.close()

    app = FastAPI(title="Telegram simulator", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.simulator = simulator
    app.include_router(bot_router(simulator))
    app.include_router(sim_router(simulator))
    app.include_router(page_router(simulator))

    @app.exception_handler(UnknownError)
    async def unknown(request: Request, error: UnknownError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 404)

    @app.exception_handler(ImpossibleError)
    async def impossible(request: Request, error: ImpossibleError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    return app
