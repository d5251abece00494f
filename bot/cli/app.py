"""All commands, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from bot.cli import demo, doctor_command, env, host, instance, invite, schema, serve, user
from bot.cli.errors import explain
from bot.cli.output import ExitCode

app = typer.Typer(
    name="zaki",
    help="One Telegram bot, and for everybody who writes to it a private OpenClaw of their own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor_command.doctor)
app.command("env")(env.env)
app.command("schema")(schema.schema)
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
