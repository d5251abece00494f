"""`python -m bot.bench NAME`, which `scripts/bench` calls."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from bot.bench.figures import Figure, Report, print_line, print_table


class Name(StrEnum):
    """What can be measured."""

    FIRST_MESSAGE = "first-message"


def bench(
    name: Annotated[Name, typer.Argument(help="What to measure.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How many times.")] = 3,
) -> None:
    """Measure one of the figures on this machine."""
    from bot import logs
    from bot.cli.errors import explain

    logs.configure(level=logging.WARNING)
    found: list[Figure] = []

    def report(figure: Figure) -> None:
        found.append(figure)
        if as_json:
            print_line(figure)

    def tell(words: str) -> None:
        typer.echo(words, err=True)

    try:
        asyncio.run(_measure(name, rounds, report, tell))
    except Exception as error:
        sentence, code = explain(error)
        tell(sentence)
        sys.exit(code)
    if not as_json:
        print_table(found)


async def _measure(name: Name, rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    match name:
        case Name.FIRST_MESSAGE:
            from bot.bench.first_message import measure

            await measure(rounds, report, tell)


if __name__ == "__main__":
    typer.run(bench)
