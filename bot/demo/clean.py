"""Removes all that a demo made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from bot.demo.host import remove_host
from bot.demo.lock import DemoLock
from bot.demo.settings import clean_settings
from bot.provisioner.single import provisioning
from bot.store import Database


async def clean(state: Path, tell: Callable[[str], None]) -> None:
    """Remove the instances with their stacks, containers and volumes, the network, and the state folder.

    Raises :class:`bot.demo.lock.DemoRunning` while a demo runs. What was begun can be begun again.
    """
    with DemoLock(state).hold():
        settings = clean_settings(state)
        if (state / "db").exists() and (state / "host.json").exists():
            tell("Removing the instances.")
            database = Database(settings.effective_database_url)
            try:
                await database.migrate()
                async with provisioning(settings, database) as provisioner:
                    await provisioner.remove_all()
            finally:
                await database.close()
        tell("Removing the network.")
        await remove_host(state)
        shutil.rmtree(state)
