"""`zaki host`: this machine, as far as instances need one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Yes, ask, print_json, say

if TYPE_CHECKING:
    from bot.settings import Settings

app = typer.Typer(help="This machine: the instances' network and the image that they run.", no_args_is_help=True)


@app.command("preview")
def preview(as_json: AsJson = False) -> None:
    """Show what `up` would change."""

    async def look() -> None:
        from bot.cli.stacks import open_stacks

        async with open_stacks(_own_settings()) as stacks:
            found = await stacks.host_preview()
        if as_json:
            print_json({"changed": found.changed, "changes": found.changes})
        else:
            typer.echo(found.text.rstrip())

    asyncio.run(look())


@app.command("up")
def up(as_json: AsJson = False) -> None:
    """Declare this machine; what is there already stays."""

    async def declare() -> None:
        from bot.cli.stacks import open_stacks

        async with open_stacks(_own_settings()) as stacks:
            made = await stacks.host_up()
        if as_json:
            print_json({"changed": made.changed, "changes": made.changes, "network": made.network})
        else:
            say(f"The host is declared{'' if made.changed else ', unchanged'}; its facts are in {made.host_file}.")

    asyncio.run(declare())


@app.command("down")
def down(yes: Yes = False) -> None:
    """Remove what `up` declared; refused while instances are there."""

    async def remove() -> None:
        from bot.cli.records import count_instances
        from bot.cli.stacks import open_stacks

        settings = _own_settings()
        if left := await count_instances(settings):
            raise CliError(
                f"{left} instances live on this host; remove them first with `zaki instance rm`.", ExitCode.REFUSED
            )
        ask("Remove this host's network and facts?", yes=yes)
        async with open_stacks(settings) as stacks:
            await stacks.host_down()
        say("The host's network and facts are gone.")

    asyncio.run(remove())


def _own_settings() -> Settings:
    """The settings; raises :class:`CliError` where the host that they name is a demo's."""
    from bot.demo.lock import is_demos
    from bot.settings import load_settings

    settings = load_settings()
    if is_demos(settings.state):
        raise CliError(
            f"{settings.state} is a demo's; `scripts/run` declares its host, and `scripts/run --clean` removes it.",
            ExitCode.REFUSED,
        )
    return settings
