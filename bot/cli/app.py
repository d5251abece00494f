"""All commands, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from bot.cli import demo, doctor_command, env, host, instance, invite, serve, user
from bot.cli.errors import explain
from bot.cli.output import ExitCode, keep_logs_quiet

app = typer.Typer(
    name="zaki",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"zaki {version('zaki-platform')}")
        raise typer.Exit


@app.callback()
def zaki(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print Zaki's version.")
    ] = False,
) -> None:
    """One Telegram bot, and for everybody who writes to it a private OpenClaw of their own."""
    keep_logs_quiet()


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor_command.doctor)
app.command("env")(env.env)
app.add_typer(host.app, name="host")
app.add_typer(user.app, name="user")
app.add_typer(instance.app, name="instance")
app.add_typer(invite.app, name="invite")


def run(arguments: Sequence[str]) -> int:
    """Do what the words say; returns the exit code. Errors are one sentence on standard error."""
    try:
        app(args=list(arguments), prog_name="zaki")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.FAILED
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        sentence, code = explain(error)
        typer.echo(sentence, err=True)
        return code
    return ExitCode.DONE


def main() -> None:
    """Entry point of the command."""
    sys.exit(run(sys.argv[1:]))
