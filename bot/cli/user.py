"""`zaki user`: the people who write to the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Row, Yes, ask, print_details, print_json, print_rows, say

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from bot.store.tables import User

app = typer.Typer(help="The people who write to the bot.", no_args_is_help=True)

Who = Annotated[str, typer.Argument(help="Telegram id, @username, or the id of their instance.")]

Policy = Literal["open", "list", "none", "plan"]

Updates = Literal["pin", "patch", "latest"]

_SKILLS = ("skill", "wanted", "state", "version", "policy", "source", "why")
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


@app.command("egress")
def egress(who: Who, policy: Annotated[Policy, typer.Argument(help="How far their instance gets.")]) -> None:
    """Let somebody's instance out less far than their plan does: `open`, `list`, `none`, or `plan`, as far as that.

    No instance ever reaches private addresses, the host's own, or another instance.
    """
    from bot.egress import Egress
    from bot.provisioner.egress import policy as base
    from bot.settings import load_settings
    from bot.users import people

    wanted = None if policy == "plan" else Egress(policy)
    settings = load_settings()

    async def limit(session: AsyncSession, user: User) -> None:
        allowed = base(settings, user.plan, None)
        if wanted is not None and base(settings, user.plan, wanted) is not wanted:
            raise CliError(
                f"The plan {user.plan} and ZAKI_EGRESS let nobody further than `{allowed}`; a person may get less.",
                ExitCode.REFUSED,
            )
        if not await people.limit_egress(session, user, wanted):
            raise CliError("They have no instance, nor a place for one; admit them first.")

    name = asyncio.run(_change(who, limit))
    say(f"The instance of {name} gets as far as {'its plan says' if wanted is None else f'`{wanted}`'}.")


@app.command("skills")
def skills(
    who: Who,
    add: Annotated[list[str] | None, typer.Option(help="@owner/name, or @owner/name@version for that one.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="@owner/name.")] = None,
    policy: Annotated[
        Updates | None, typer.Option(help="Which newer versions of those that are added come by themselves.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List somebody's skills, after having some added or removed where that is asked for.

    What is added is vetted like everything else. They are told, and may change it with /skills.
    """
    from bot.skills import wishes
    from bot.skills.names import BadName, parse
    from bot.store.tables import SkillPolicy, SkillSource, Wanted, Wish

    try:
        wanted, unwanted = [parse(name) for name in add or ()], [parse(name)[0] for name in remove or ()]
    except BadName as error:
        raise CliError(str(error), ExitCode.USAGE) from None
    if policy is not None and not wanted:
        raise CliError("--policy is for skills that are added; name one with --add.", ExitCode.USAGE)
    if policy in ("patch", "latest") and any(version for _, version in wanted):
        raise CliError(f"A version is for --policy pin; leave it out, or {policy} away.", ExitCode.USAGE)

    async def change(session: AsyncSession, user: User) -> None:
        wish = await session.get(Wish, user.id)
        if wish is None or wish.wanted == Wanted.ABSENT:
            raise CliError("They have no instance, nor a place for one; admit them first.")
        for name, version in wanted:
            kept = SkillPolicy.PIN if version else (SkillPolicy(policy) if policy else None)
            await wishes.want(session, user.id, name, SkillSource.OPERATOR, policy=kept, version=version)
        for name in unwanted:
            await wishes.unwant(session, user.id, name, SkillSource.OPERATOR)

    async def read() -> list[Row]:
        from bot.cli.records import existing_database, user_details
        from bot.cli.skill_records import person_rows

        async with existing_database() as database, database.read() as session:
            return await person_rows(session, (await user_details(session, who))["telegram_id"])

    if wanted or unwanted:
        asyncio.run(_change(who, change))
    print_rows(asyncio.run(read()), _SKILLS, as_json=as_json, nothing="They have no skills.")


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
