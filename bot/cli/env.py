"""`zaki env`: the environment for a plain `pulumi`."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from typing import Annotated

import typer

from bot.cli.output import AsJson, print_json


def env(
    make: Annotated[bool, typer.Option("--make", help="Make the host's stack, empty, where it is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the environment of the host's stack: eval "$(zaki env)" && pulumi preview -s dev"""

    async def read() -> dict[str, str]:
        from bot.cli.stacks import open_stacks
        from bot.settings import load_settings

        async with open_stacks(load_settings()) as stacks:
            return dict(stacks.host_environment(make=make))

    environment = asyncio.run(read())
    if as_json:
        print_json(environment)
    else:
        print_exports(environment)


def print_exports(environment: Mapping[str, str]) -> None:
    """Lines that a shell can evaluate."""
    for name, value in environment.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
