"""`zaki invite`: codes that admit people."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Row, print_json, print_rows

app = typer.Typer(help="Codes that admit people: they send /start CODE to the bot.", invoke_without_command=True)

_COLUMNS = ("code", "uses_left", "expires_at", "created_at")
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@app.callback()
def invite(
    context: typer.Context,
    uses: Annotated[int, typer.Option(min=1, help="How many people each code admits.")] = 1,
    expires: Annotated[
        str, typer.Option(metavar="7d", help="For how long: minutes, hours, days, weeks, or never.")
    ] = "7d",
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many codes.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make codes that admit people: they send /start CODE to the bot."""
    if context.invoked_subcommand is not None:
        return
    lifetime = _seconds(expires)

    async def make() -> list[Row]:
        from bot.cli.records import invite_rows, open_database
        from bot.settings import load_settings
        from bot.users import invites

        async with open_database(load_settings()) as database:
            # An operator may hand out codes before the service starts for the first time.
            await database.migrate()
            async with database.write() as session:
                codes = await invites.create(session, count, uses, lifetime)
                return await invite_rows(session, codes)

    rows = asyncio.run(make())
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(row["code"])


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the codes that still admit somebody."""

    async def read() -> list[Row]:
        from bot.cli.records import existing_database, invite_rows

        async with existing_database() as database, database.read() as session:
            return await invite_rows(session)

    print_rows(asyncio.run(read()), _COLUMNS, as_json=as_json, nothing="There are no codes; `zaki invite` makes one.")


def _seconds(expires: str) -> int | None:
    if expires == "never":
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", expires)
    if match is None:
        raise CliError(f"--expires {expires} is no time; give for example 12h, 7d or never.", ExitCode.USAGE)
    return int(match[1]) * _UNITS[match[2]]
