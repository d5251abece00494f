"""`python -m bot.standins.telegram`: the simulator alone."""

import asyncio
import os
import secrets
from typing import Annotated

import typer

from bot.standins.telegram.app import create_app
from bot.standins.telegram.config import SimulatorConfig
from bot.standins.telegram.server import serve


def main(
    port: Annotated[int, typer.Option(help="The TCP port.")] = 8081,
    host: Annotated[str, typer.Option(help="Where to listen; there is no log-in, so keep it local.")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="The bot's token; one is made up without it.")] = None,
    bot_username: Annotated[str, typer.Option()] = "zaki_demo_bot",
    enforce_limits: Annotated[bool, typer.Option(help="Apply Telegram's own limits on sends.")] = False,
) -> None:
    """A Telegram with one bot, for trying things out: the Bot API, a control API and a chat page."""
    token = token or f"{1_000_000_000 + secrets.randbelow(10**9)}:{secrets.token_urlsafe(26)}"
    try:
        config = SimulatorConfig(token, bot_username, enforce_limits=enforce_limits)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--token") from None
    typer.echo(f"Chat page: http://{host}:{port}/   Bot API: http://{host}:{port}   Token: {token}")
    try:
        asyncio.run(serve(create_app(config), host, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        typer.echo(f"Cannot listen on {host}:{port} ({reason}); choose another --port.", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
