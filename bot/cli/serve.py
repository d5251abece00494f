"""`zaki serve`: the service."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from typing import Annotated

import typer


class RoleName(StrEnum):
    """Parts that can run as processes of their own."""

    FRONT = "front"
    PROVISIONER = "provisioner"


def serve(
    role: Annotated[
        RoleName | None, typer.Option(help="Run this part alone; the other one is another process.")
    ] = None,
) -> None:
    """Serve the bot until Ctrl-C; instances keep running."""
    from bot import logs
    from bot.serve import Role
    from bot.serve import serve as run
    from bot.settings import load_settings

    settings = load_settings()
    if role is not RoleName.PROVISIONER:
        settings.require_token()
    logs.configure(logs.secrets_of(settings))
    # Two system users share what the service writes, through their group.
    os.umask(0o007)
    asyncio.run(run(settings, Role(role.value) if role else None))
