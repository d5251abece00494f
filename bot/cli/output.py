"""What commands print: tables for people, JSON for programs, sentences on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Row = dict[str, Any]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3  #: by policy


class CliError(Exception):
    """A command cannot do what it was asked to; the message is a sentence that says what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, nothing: str) -> None:
    """A listing: the named columns as a table, or whole rows as one JSON array; `nothing` where it is empty."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        say(nothing)
        return
    stdout().print(_table(rows, columns))


def print_details(row: Row, *, as_json: bool) -> None:
    """One thing: a line for each of its fields, and a table below them for each list; or one JSON object."""
    if as_json:
        print_json(row)
        return
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    lists = {name: value for name, value in row.items() if isinstance(value, list) and value}
    for name, value in row.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key.replace('_', ' ')} {part}" for key, part in value.items())
        if name not in lists:
            table.add_row(name.replace("_", " "), _text(value))
    console = stdout()
    console.print(table)
    for name, entries in lists.items():
        console.print(f"\n[bold]{name.replace('_', ' ')}[/]")
        console.print(_table(entries, tuple(entries[0])))


def say(sentence: str) -> None:
    """A sentence for the person at the terminal; standard output stays for results."""
    typer.echo(sentence, err=True)


def ask(question: str, *, yes: bool) -> None:
    """Return if the person agrees or `yes` was given; else raise :class:`CliError`."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("Nobody is here to be asked whether that is meant; add --yes.", ExitCode.USAGE)
    if not typer.confirm(question, err=True):
        raise CliError("Nothing was changed.")


def keep_logs_quiet() -> None:
    """Print nothing of what the parts log: a command says itself what it did."""
    import structlog

    def drop(_logger: object, _name: str, _line: MutableMapping[str, Any]) -> Mapping[str, Any]:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])


def stdout() -> Console:
    """Rich on standard output; where that is no terminal, lines are as long as they are."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=10_000, soft_wrap=True)


def moment(at: float | None) -> str | None:
    """Unix time as ISO 8601 in UTC."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    from rich.markup import escape

    return escape(str(value))


def _table(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], int) for row in rows)
        table.add_column(column.replace("_", " "), overflow="fold", justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    return table
