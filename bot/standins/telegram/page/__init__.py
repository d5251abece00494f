"""The chat page: one HTML page, its style sheet and its scripts, all from this package."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined

from bot.standins.telegram.simulator import Simulator

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_router(simulator: Simulator) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    environment = Environment(loader=PackageLoader(__name__, "templates"), autoescape=True, undefined=StrictUndefined)

    @router.get("/")
    async def page() -> HTMLResponse:
        html = environment.get_template("chat.html").render(bot=simulator.bot_user)
        return HTMLResponse(html, headers=_HEADERS)

    router.mount("/static", StaticFiles(directory=str(files(__name__) / "static")), name="static")
    return router
