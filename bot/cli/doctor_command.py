"""`zaki doctor`: what this machine lacks."""

from __future__ import annotations

import asyncio

import typer

from bot.cli.output import AsJson, ExitCode


def doctor(as_json: AsJson = False) -> None:
    """Check this machine for all that Zaki needs, and name the cure of what is missing."""
    from bot.cli.doctor import render, run_checks

    checks = asyncio.run(run_checks())
    render(checks, as_json)
    if any(check.failed for check in checks):
        raise typer.Exit(ExitCode.FAILED)
