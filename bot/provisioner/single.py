"""The provisioner for a single command: its parts without its main loops, beside or without a running service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.hostfacts import HostFacts, host_file
from bot.nudge import Nudge
from bot.provisioner.app import Provisioner
from bot.settings import Settings
from bot.store import Database
from bot.toolchain import Toolchain


@asynccontextmanager
async def provisioning(settings: Settings, database: Database) -> AsyncIterator[Provisioner]:
    """A provisioner that does only what the block asks of it."""
    host = HostFacts.read(host_file(settings))
    provisioner = Provisioner(settings, database, Nudge(), host, Toolchain.from_pins())
    await provisioner.connect()
    try:
        yield provisioner
    finally:
        await provisioner.stop()
