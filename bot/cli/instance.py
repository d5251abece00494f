"""`zaki instance`: people's OpenClaws."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, Row, Yes, ask, print_details, print_json, print_rows, say

if TYPE_CHECKING:
    from bot.provisioner.app import Provisioner
    from bot.store import Database
    from infra.spec import InstanceSpec

app = typer.Typer(help="People's OpenClaws, each an instance with a stack of its own.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="u-…", help="The instance's id.")]

_COLUMNS = ("id", "state", "telegram_id", "name", "plan", "address", "ready_at", "failure")


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the instances."""

    async def read() -> list[Row]:
        from bot.cli.records import existing_database, instance_rows

        async with existing_database() as database, database.read() as session:
            return await instance_rows(session)

    print_rows(asyncio.run(read()), _COLUMNS, as_json=as_json, nothing="There are no instances yet.")


@app.command("show")
def show(
    instance_id: Which,
    env: Annotated[bool, typer.Option("--env", help="Print the environment for a plain `pulumi` instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one instance, what is being done to it, and why it failed if it did."""

    async def read() -> Row:
        from bot.cli.records import existing_database, instance_details

        async with existing_database() as database, database.read() as session:
            return await instance_details(session, instance_id)

    details = asyncio.run(read())
    if not env:
        print_details(details, as_json=as_json)
        return
    environment, line = asyncio.run(_environment(instance_id))
    if as_json:
        print_json({"environment": environment, "preview": line})
        return
    from bot.cli.env import print_exports

    print_exports(environment)
    typer.echo(f"# {line}")


@app.command("preview")
def preview(instance_id: Which, as_json: AsJson = False) -> None:
    """Show what `up` would change in the instance's stack."""

    async def look() -> None:
        async with _provisioner() as (database, provisioner):
            found = await provisioner.context.stacks.preview(await _spec(database, provisioner, instance_id))
        if as_json:
            print_json({"changed": found.changed, "changes": found.changes})
        else:
            typer.echo(found.text.rstrip())

    asyncio.run(look())


@app.command("up")
def up(instance_id: Which, as_json: AsJson = False) -> None:
    """Bring the instance's stack to what its plan says, and a failed one up again; its memory and files stay."""

    async def declare() -> None:
        from sqlalchemy import select

        from bot.provisioner.lease import lease, new_owner
        from bot.store.tables import Instance, User
        from bot.users import people

        async with _provisioner() as (database, provisioner):
            spec = await _spec(database, provisioner, instance_id)
            async with lease(database, instance_id, new_owner()):
                made = await provisioner.context.stacks.up(spec)
            async with database.write() as session:
                user = await session.scalar(select(User).join(Instance).where(Instance.id == instance_id))
                if user is not None:
                    await people.renew(session, user)
        if as_json:
            print_json({"changed": made.changed, "changes": made.changes})
        else:
            say(f"{instance_id} is as its plan says{'' if made.changed else ', unchanged'}.")

    asyncio.run(declare())


@app.command("logs")
def logs(
    instance_id: Which,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=1, help="How many of the latest lines.")] = 200,
) -> None:
    """Print what the instance's gateway printed."""

    async def read() -> None:
        from bot.provisioner.containers import Containers

        async with Containers.connect() as containers:
            async for line in containers.logs(instance_id, tail=tail, follow=follow):
                typer.echo(line, nl=not line.endswith("\n"))

    asyncio.run(read())


@app.command("rm")
def rm(instance_id: Which, yes: Yes = False) -> None:
    """Delete the instance for good, with its memory and files; its person may get a new one by writing again."""

    async def remove() -> None:
        from bot.cli.records import existing_database, instance_details
        from bot.settings import load_settings

        settings = load_settings()
        async with existing_database(settings) as database:
            async with database.read() as session:
                details = await instance_details(session, instance_id)
            whose = (
                f"{details['name'] or 'somebody'} ({details['telegram_id']})" if details["telegram_id"] else "nobody"
            )
            ask(f"Delete {instance_id} of {whose} with its memory and files?", yes=yes)
            from bot.cli.removal import remove_instance

            await remove_instance(settings, database, instance_id)
        say(f"{instance_id} is gone.")

    asyncio.run(remove())


@asynccontextmanager
async def _provisioner() -> AsyncIterator[tuple[Database, Provisioner]]:
    from bot.cli.records import existing_database
    from bot.provisioner.single import provisioning
    from bot.settings import load_settings

    settings = load_settings()
    async with existing_database(settings) as database, provisioning(settings, database) as provisioner:
        yield database, provisioner


async def _spec(database: Database, provisioner: Provisioner, instance_id: str) -> InstanceSpec:
    from bot.cli.records import instance_details

    async with database.read() as session:
        details = await instance_details(session, instance_id)
    spec = await provisioner.spec(instance_id) if details["address"] is not None else None
    if spec is None:
        raise CliError(f"{instance_id} has no address yet; the service gives it one with its first `up`.")
    return spec


async def _environment(instance_id: str) -> tuple[dict[str, str], str]:
    from bot.cli.stacks import open_stacks
    from bot.settings import load_settings

    async with open_stacks(load_settings()) as stacks:
        return dict(stacks.environment(instance_id)), stacks.command_line(instance_id)
