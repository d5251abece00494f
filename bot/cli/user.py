"""`zaki user`: the people who write to the bot."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bot.cli.output import AsJson, Row, print_details, print_rows

app = typer.Typer(help="The people who write to the bot.", no_args_is_help=True)

_COLUMNS = ("telegram_id", "name", "username", "status", "instance", "state", "last_message_at")


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List everybody who has written, with the state of their instance."""

    async def read() -> list[Row]:
        from bot.cli.records import existing_database, user_rows

        async with existing_database() as database, database.read() as session:
            return await user_rows(session)

    print_rows(asyncio.run(read()), _COLUMNS, as_json=as_json, nothing="Nobody has written yet.")


@app.command("show")
def show(
    who: Annotated[str, typer.Argument(help="Telegram id, @username, or the id of their instance.")],
    as_json: AsJson = False,
) -> None:
    """Show one person, and what happened for them lately."""

    async def read() -> Row:
        from bot.cli.records import existing_database, user_details

        async with existing_database() as database, database.read() as session:
            return await user_details(session, who)

    print_details(asyncio.run(read()), as_json=as_json)
