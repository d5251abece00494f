"""`zaki user`: the people who write to the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, Row, Yes, ask, print_details, print_json, print_rows, say

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from bot.store.tables import User

app = typer.Typer(help="The people who write to the bot.", no_args_is_help=True)

Who = Annotated[str, typer.Argument(help="Telegram id, @username, or the id of their instance.")]

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
def show(who: Who, as_json: AsJson = False) -> None:
    """Show one person, and what happened for them lately."""

    async def read() -> Row:
        from bot.cli.records import existing_database, user_details

        async with existing_database() as database, database.read() as session:
            return await user_details(session, who)

    print_details(asyncio.run(read()), as_json=as_json)


@app.command("suspend")
def suspend(who: Who) -> None:
    """Stop somebody's instance and deliver nothing to it until `resume`; nothing of theirs is deleted."""
    from bot.users import people

    name = asyncio.run(_change(who, people.suspend))
    say(f"{name} is suspended.")


@app.command("resume")
def resume(who: Who) -> None:
    """End somebody's suspension; their instance starts with their next message."""
    from bot.users import people

    name = asyncio.run(_change(who, people.resume))
    say(f"{name} may write again.")


@app.command("rm")
def rm(who: Who, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete somebody with their instance and all that is stored about them, and print the receipt.

    They are not told: the receipt is the operator's. Whoever is not welcome again is suspended first, which stays.
    """

    async def remove() -> Row:
        from bot.cli.records import existing_database, user_details
        from bot.settings import load_settings

        settings = load_settings()
        async with existing_database(settings) as database:
            async with database.read() as session:
                found = await user_details(session, who)
            ask(f"Delete everything of {_called(found)}, {_belongings(found)}?", yes=yes)
            from bot.cli.removal import remove_person

            removed = await remove_person(settings, database, found["telegram_id"])
        return {"telegram_id": found["telegram_id"], "instance": found["instance"], "removed": removed}

    receipt = asyncio.run(remove())
    if as_json:
        print_json(receipt)
    else:
        print_rows([{"removed": line} for line in receipt["removed"]], ("removed",), as_json=False, nothing="")
        say(f"{receipt['telegram_id']} is gone.")


async def _change(who: str, change: Callable[[AsyncSession, User], Awaitable[None]]) -> str:
    from bot.cli.records import existing_database, user_details
    from bot.users import people

    async with existing_database() as database, database.write() as session:
        found = await user_details(session, who)
        user = await people.find(session, found["telegram_id"])
        if user is None:
            raise CliError(f"Nobody is known as {who}; `zaki user ls` lists everybody.")
        await change(session, user)
    return _called(found)


def _called(found: Row) -> str:
    return f"{found['name'] or 'somebody'} ({found['telegram_id']})"


def _belongings(found: Row) -> str:
    instance = f"with {found['instance']}, its memory and files" if found["instance"] else "who has no instance"
    return f"{instance}{', but for the suspension' if found['status'] == 'suspended' else ''}"
