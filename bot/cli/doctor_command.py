"""`zaki doctor`: what this machine lacks."""

from __future__ import annotations

import asyncio

import typer

from bot.cli.output import AsJson, ExitCode


def doctor(as_json: AsJson = False) -> None:
    """Check this machine for all that Zaki needs, and name the cure of what is missing."""
    from bot.cli.doctor import Check, render, run_checks
    from bot.settings import Settings, SettingsError, load_settings

    settings: Settings | None = None
    try:
        settings = load_settings()
        first = Check("Settings", True, f"state in {settings.state}")
    except SettingsError as error:
        # A machine is worth a look also where its settings are not right yet.
        first = Check("Settings", False, "wrong", str(error))
    checks = [first, *asyncio.run(run_checks(settings))]
    render(checks, as_json)
    if any(check.failed for check in checks):
        raise typer.Exit(ExitCode.FAILED)
