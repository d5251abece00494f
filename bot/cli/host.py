"""`zaki host`: this machine, as far as instances need one, or a host behind SSH that is a stack of the checkout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Yes, ask, print_json, say

if TYPE_CHECKING:
    from bot.provisioner.operators import OperatorsStack
    from bot.settings import Settings

app = typer.Typer(
    help="This machine, with its instances' network and image; or with --stack a host behind SSH, all of it.",
    no_args_is_help=True,
)

StackName = Annotated[
    str | None, typer.Option("--stack", help="A stack of this checkout, Pulumi.NAME.yaml; without it: this machine.")
]
_T = TypeVar("_T")


@app.command("preview")
def preview(stack: StackName = None, as_json: AsJson = False) -> None:
    """Show what `up` would change."""

    async def look() -> None:
        if stack is not None:
            remote = _open(stack)
            found = await _blocking(remote, lambda: remote.preview(release=_name(_build())))
        else:
            from bot.cli.stacks import open_stacks

            async with open_stacks(_own_settings()) as stacks:
                found = await stacks.host_preview()
        if as_json:
            print_json({"changed": found.changed, "changes": found.changes})
        else:
            typer.echo(found.text.rstrip())

    asyncio.run(look())


@app.command("up")
def up(stack: StackName = None, as_json: AsJson = False) -> None:
    """Declare this machine, or make the stack's host serve this checkout's Zaki; what is as declared already stays."""

    async def declare() -> None:
        from bot.cli.stacks import open_stacks

        async with open_stacks(_own_settings()) as stacks:
            made = await stacks.host_up()
        if as_json:
            print_json({"changed": made.changed, "changes": made.changes, "network": made.network})
        else:
            say(f"The host is declared{'' if made.changed else ', unchanged'}; its facts are in {made.host_file}.")

    asyncio.run(declare() if stack is None else _up_there(stack, as_json=as_json))


@app.command("down")
def down(
    stack: StackName = None,
    data: Annotated[
        bool, typer.Option("--data", help="With --stack: everything that people have there goes too, for good.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove what `up` declared. On this machine it is refused while instances are there; a stack's host keeps them."""
    if stack is not None:
        asyncio.run(_down_there(stack, data=data, yes=yes))
        return
    if data:
        raise CliError("--data is of a stack's host; `zaki instance rm` removes an instance here.", ExitCode.USAGE)

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


@app.command("release")
def release() -> None:
    """Make only the archive that `up --stack` brings to a host, and print its path, for `zaki:release`."""
    typer.echo(_name(_build()))


async def _up_there(stack: str, *, as_json: bool) -> None:
    from bot.cli.hostprogress import shown

    remote = _open(stack)
    begun = time.monotonic()

    def work() -> dict[str, object]:
        archive = _build()
        remote.set("release", _name(archive))
        with shown() as progress:
            done = remote.up(progress)
        return {
            "changed": done.changed,
            "changes": dict(done.changes),
            "release": archive.name.removeprefix("zaki-").removesuffix(".tar.gz"),
            "seconds": round(time.monotonic() - begun, 1),
            "steps": {step.name: round(step.seconds, 1) for step in done.steps},
        }

    found = await _blocking(remote, work)
    if as_json:
        print_json(found)
    elif found["changed"]:
        say(f"{remote.target().host} serves Zaki {found['release']}, after {found['seconds']:.0f} s.")
    else:
        say(f"{remote.target().host} serves Zaki {found['release']}, unchanged.")


async def _down_there(stack: str, *, data: bool, yes: bool) -> None:
    from bot.cli.hostprogress import shown

    remote = _open(stack)
    host = remote.target().host
    if data:
        ask(f"Delete every assistant on {host} with all that people have there, the keys and the archives?", yes=yes)
    else:
        ask(f"Take Zaki off {host}? What people have there stays.", yes=yes)

    def work() -> None:
        with shown() as progress:
            if data:
                # Whoever takes the services away reads it.
                remote.up(progress, keep_data="false")
            remote.destroy(progress)

    await _blocking(remote, work)
    kept = "nothing of Zaki is left there" if data else "what people have is kept in /var/lib/zaki there"
    say(f"{host} is what it was before; {kept}.")


async def _blocking(remote: OperatorsStack, work: Callable[[], _T]) -> _T:
    """Do what blocks beside the event loop, so that Ctrl-C ends the engine before it ends us."""
    from bot.provisioner.stackresults import StackFailed

    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        say("Ending what is under way …")
        remote.stop()
        await asyncio.gather(running, return_exceptions=True)
        raise
    except StackFailed as failed:
        if "see the lines above" in str(failed):
            for line in failed.details:
                say(f"  {line}")
        raise


def _open(stack: str) -> OperatorsStack:
    from bot.provisioner.operators import OperatorsStack, environment_of
    from bot.settings import load_settings
    from bot.toolchain import Toolchain
    from infra.configuration import SpecError

    if stack.startswith("u-"):
        raise CliError(f"{stack} names a person's stack; `zaki instance preview {stack}` looks at it.", ExitCode.USAGE)
    toolchain = Toolchain.from_pins()
    if not (toolchain.pulumi_bin / "pulumi").exists():
        raise CliError("The Pulumi engine is missing on this machine; run scripts/setup.")
    remote = OperatorsStack(
        stack,
        Path(__file__).resolve().parents[2],
        toolchain,
        environment_of(toolchain, load_settings().state),
    )
    try:
        remote.target()
    except SpecError as error:
        raise CliError(str(error), ExitCode.USAGE) from None
    return remote


def _build() -> Path:
    from bot.cli.releasing import build_release
    from bot.toolchain import cache_folder

    return build_release(cache_folder() / "releases")


def _name(archive: Path) -> str:
    """The same on every machine, where the cache is in the home folder."""
    home = Path.home()
    return f"~/{archive.relative_to(home)}" if archive.is_relative_to(home) else str(archive)


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
