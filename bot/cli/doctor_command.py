"""`zaki doctor`: what this machine lacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from bot.cli.output import AsJson, ExitCode

if TYPE_CHECKING:
    from bot.cli.doctor import Check
    from bot.settings import Settings


def doctor(as_json: AsJson = False) -> None:
    """Check this machine for all that Zaki needs, and name the cure of what is missing."""
    from bot.cli.doctor import Check, render
    from bot.settings import SettingsError, load_settings

    settings: Settings | None = None
    try:
        settings = load_settings()
        first = Check("Settings", True, f"state in {settings.state}")
    except SettingsError as error:
        # A machine is worth a look also where its settings are not right yet.
        first = Check("Settings", False, "wrong", str(error))
    checks = [first, *asyncio.run(_look(settings))]
    render(checks, as_json)
    if any(check.failed for check in checks):
        raise typer.Exit(ExitCode.FAILED)


async def _look(settings: Settings | None) -> list[Check]:
    from bot.cli.doctor import leftovers_checks, run_checks
    from bot.provisioner.leftovers import find_leftovers

    checks = await run_checks(settings)
    if settings is not None:
        checks += leftovers_checks(await find_leftovers(settings))
    return checks
