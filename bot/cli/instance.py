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
    from bot.provisioner.decision import Action
    from bot.store import Database
    from bot.store.tables import Instance
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
    """Show one instance: what is done to it and why, or why not, and why it failed if it did."""

    async def read() -> Row:
        from bot.cli.memory import memory_use
        from bot.cli.records import existing_database, instance_details

        async with existing_database() as database, database.read() as session:
            found = await instance_details(session, instance_id)
        return {**found, "memory": await memory_use(instance_id)}

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

        from bot.store.tables import Instance, User
        from bot.users import people

        async with _provisioner() as (database, provisioner):
            await _known(database, instance_id)
            changed = await provisioner.reconciler.declare(instance_id)
            async with database.write() as session:
                user = await session.scalar(select(User).join(Instance).where(Instance.id == instance_id))
                if user is not None:
                    await people.renew(session, user)
        if as_json:
            print_json({"changed": changed})
        else:
            say(f"{instance_id} is as its plan says{'' if changed else ', unchanged'}.")

    asyncio.run(declare())


@app.command("wake")
def wake(instance_id: Which) -> None:
    """Wake the instance, whatever it is now, and wait until it is ready."""
    from bot.provisioner.decision import Action

    asyncio.run(_ask_for(instance_id, Action.WAKE))
    say(f"{instance_id} is awake.")


@app.command("sleep")
def sleep(instance_id: Which) -> None:
    """Put the instance to sleep; refused (exit code 3) while it has something to do."""
    from bot.provisioner.decision import Action

    asyncio.run(_ask_for(instance_id, Action.SLEEP))
    say(f"{instance_id} is asleep.")


@app.command("restart")
def restart(instance_id: Which) -> None:
    """Start the instance's gateway anew, and wait until it is ready."""
    from bot.provisioner.decision import Action

    asyncio.run(_ask_for(instance_id, Action.RESTART))
    say(f"{instance_id} was started anew.")


@app.command("adopt")
def adopt(
    instance_id: Which,
    user: Annotated[int, typer.Option("--user", metavar="TELEGRAM_ID", help="Whose it is.")],
    yes: Yes = False,
) -> None:
    """Give an instance that a restored database does not know back to its person; `zaki doctor` names such ones."""

    async def give_back() -> None:
        from bot.cli import adoption

        async with _provisioner() as (_, provisioner):
            found = await adoption.find(provisioner.context, instance_id)
            if found.owners is None:
                ask(f"Nothing here says whose {instance_id} is. Give its files to {user}?", yes=yes)
            await adoption.adopt(provisioner.context, found, user)
        say(f"{instance_id} is {user}'s; it comes up by itself.")

    asyncio.run(give_back())


@app.command("open")
def open_(
    instance_id: Which,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="This port, by default a free one.")] = None,
    token: Annotated[bool, typer.Option("--token", help="Print the gateway's token too: it may do anything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forward a port of 127.0.0.1 to the instance's gateway while it runs, until Ctrl-C."""

    async def forward() -> None:
        from bot.cli.forwarding import check_awake, forwarding, until_it_rests
        from bot.serve import stop_signals

        async with _provisioner() as (database, provisioner):
            instance = await _known(database, instance_id)
            await check_awake(provisioner.context.containers, instance_id)
            shown = {"url": "", "token": provisioner.context.gateway(instance).token if token else None}
            with stop_signals() as stop:
                async with forwarding(str(instance.address), port) as open_port:
                    shown["url"] = f"http://127.0.0.1:{open_port}"
                    if as_json:
                        print_json(shown)
                    else:
                        typer.echo("\n".join(text for text in shown.values() if text))
                        say("Ctrl-C closes it.")
                    await until_it_rests(provisioner.context.containers, instance_id, stop)

    asyncio.run(forward())


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
    from bot.credentials import read_key
    from bot.provisioner.single import provisioning
    from bot.settings import load_settings

    settings = load_settings()
    async with existing_database(settings) as database:
        for name in ("front", "provisioner", "archive"):
            # A provisioner makes what is missing, and with new keys no instance can be reached.
            read_key(settings.state / "keys" / f"{name}.key")
        async with provisioning(settings, database) as provisioner:
            yield database, provisioner


async def _known(database: Database, instance_id: str) -> Instance:
    """The instance's row; raises :class:`CliError` where there is none."""
    from bot.store.tables import Instance

    async with database.read() as session:
        instance = await session.get(Instance, instance_id)
    if instance is None:
        raise CliError(f"There is no instance {instance_id}; `zaki instance ls` lists them.")
    return instance


async def _spec(database: Database, provisioner: Provisioner, instance_id: str) -> InstanceSpec:
    if (await _known(database, instance_id)).address is None:
        raise CliError(f"{instance_id} has no address yet; the service gives it one with its first `up`.")
    spec = await provisioner.spec(instance_id)
    assert spec is not None  # noqa: S101 - its row was there just now
    return spec


async def _ask_for(instance_id: str, action: Action) -> None:
    from bot.cli.asking import ask_for

    async with _provisioner() as (database, provisioner):
        await _known(database, instance_id)
        await ask_for(provisioner, instance_id, action)


async def _environment(instance_id: str) -> tuple[dict[str, str], str]:
    from bot.cli.stacks import open_stacks
    from bot.settings import load_settings

    async with open_stacks(load_settings()) as stacks:
        return dict(stacks.environment(instance_id)), stacks.command_line(instance_id)
