"""Pulumi for single commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.toolchain import Toolchain


@asynccontextmanager
async def open_stacks(settings: Settings) -> AsyncIterator[StackManager]:
    """The stacks below the settings' state folder."""
    async with Containers.connect() as containers:
        stacks = StackManager(Toolchain.from_pins(), settings.state, containers)
        try:
            yield stacks
        finally:
            await stacks.close()
