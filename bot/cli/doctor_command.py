"""`zaki doctor`: what this machine lacks, and what is not as it should be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Yes, print_json

if TYPE_CHECKING:
    from bot.cli.doctor import Check
    from bot.cli.output import Row
    from bot.settings import Settings


def doctor(
    instances: Annotated[
        list[str] | None,
        typer.Argument(metavar="u-…", help="With --fix: remove these instances, which belong to nobody known."),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is broken, and remove what is nobody's.")] = False,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Check this machine for all that Zaki needs, and name the cure of what is missing.

    --fix alone never removes a volume or an archive that the database does
    not know, because after a restored database it may hold somebody's files:
    that takes the instance's id as well.
    """
    if fix:
        _fix(instances or [], as_json=as_json, yes=yes)
        return
    if instances:
        raise CliError(f"Add --fix to remove {' and '.join(instances)}.", ExitCode.USAGE)
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


def _fix(instances: list[str], *, as_json: bool, yes: bool) -> None:
    async def bring_in_order() -> list[Row]:
        from bot.cli.fixing import fix, fix_instances
        from bot.settings import load_settings

        settings = load_settings()
        return await (fix_instances(settings, instances, yes=yes) if instances else fix(settings, yes=yes))

    rows = asyncio.run(bring_in_order())
    if as_json:
        print_json(rows)
    if any(row["outcome"] == "failed" for row in rows):
        raise typer.Exit(ExitCode.FAILED)


async def _look(settings: Settings | None) -> list[Check]:
    from bot.cli.doctor import leftovers_checks, run_checks
    from bot.provisioner.leftovers import find_leftovers

    checks = await run_checks(settings)
    if settings is not None:
        checks += leftovers_checks(await find_leftovers(settings))
    return checks
