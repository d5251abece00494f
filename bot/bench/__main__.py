"""`python -m bot.bench NAME`, which `scripts/bench` calls."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from bot.bench.figures import Figure, Report, print_line, print_table

app = typer.Typer(help="Measure one of the figures on this machine.", no_args_is_help=True, add_completion=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")]
Tell = Callable[[str], None]


@app.command("first-message")
def first_message(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each side is measured.")] = 3,
) -> None:
    """From a stranger's first message to the first reply, beside `openclaw fleet create` and its first turn."""
    from bot.bench.first_message import measure

    _run(lambda report, tell: measure(rounds, report, tell), as_json=as_json)


@app.command("new-user")
def new_user(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each side is measured.")] = 3,
) -> None:
    """As first-message, where the warm pool has an instance for whoever comes."""
    from bot.bench.new_user import measure

    _run(lambda report, tell: measure(rounds, report, tell), as_json=as_json)


@app.command("wake")
def wake(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each is measured.")] = 3,
) -> None:
    """From a message to the first reply of an instance that is awake, asleep and stopped; and to the sign of typing."""
    from bot.bench.wake import measure

    _run(lambda report, tell: measure(rounds, report, tell), as_json=as_json)


@app.command("density")
def density(
    as_json: AsJson = False,
    sleepers: Annotated[int, typer.Option(min=1, help="How many instances are put to sleep and measured.")] = 3,
) -> None:
    """What a sleeping instance takes of memory and swap, and how many this machine holds."""
    from bot.bench.density import measure

    _run(lambda report, tell: measure(sleepers, report, tell), as_json=as_json)


@app.command("idle")
def idle(
    as_json: AsJson = False,
    instances: Annotated[int, typer.Option(min=1, help="How many instances rest.")] = 1000,
    seconds: Annotated[float, typer.Option(min=60, help="For how long they are looked after.")] = 300,
) -> None:
    """What it costs to look after instances that rest: processor time of the service and of Docker."""
    from bot.bench.idle import measure

    _run(lambda report, tell: measure(instances, seconds, report, tell), as_json=as_json)


@app.command("hot-path")
def hot_path(
    as_json: AsJson = False,
    rate: Annotated[float, typer.Option(min=1, help="Updates a second.")] = 200,
    people: Annotated[int, typer.Option(min=1, max=200, help="How many people write.")] = 50,
    seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 60,
) -> None:
    """From an update's arrival to its acknowledgement and delivery, on both databases; memory of an idle service."""
    from bot.bench.hot_path import Shape, measure

    _run(lambda report, tell: measure(Shape(rate, people, seconds), report, tell), as_json=as_json)


@app.command("up-scale")
def up_scale(
    as_json: AsJson = False,
    stacks: Annotated[int, typer.Option(min=2, help="How many users' stacks there are in the end.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each `up` is measured.")] = 10,
) -> None:
    """A user's first `up` and one without changes, with one user's stack present and with many."""
    from bot.bench.up_scale import measure

    _run(lambda report, tell: measure(stacks, rounds, report, tell), as_json=as_json)


@app.command("faults")
def faults(
    as_json: AsJson = False,
    kills: Annotated[int | None, typer.Option(min=1, help="How many; 1,000, or 10 with --real.")] = None,
    seed: Annotated[int | None, typer.Option(help="What a failed campaign printed, to run it again.")] = None,
    real: Annotated[bool, typer.Option("--real", help="With OpenClaw instead of its stand-in.")] = False,
) -> None:
    """`kill -9` of front, provisioner, engine and instances while people write: what was lost, shown twice or left."""
    import secrets

    from bot.bench.faults.bench import measure, real_shape, standin_shape

    drawn = seed if seed is not None else secrets.randbelow(1_000_000)
    shape = real_shape(drawn, kills or 10) if real else standin_shape(drawn, kills or 1000)
    _run(lambda report, tell: measure(shape, real=real, report=report, tell=tell), as_json=as_json)


def _run(measure: Callable[[Report, Tell], Awaitable[None]], *, as_json: bool) -> None:
    from bot import logs
    from bot.cli.errors import explain

    logs.configure(level=logging.ERROR)
    found: list[Figure] = []

    def report(figure: Figure) -> None:
        found.append(figure)
        if as_json:
            print_line(figure)

    def tell(words: str) -> None:
        typer.echo(words, err=True)

    async def measured() -> None:
        await measure(report, tell)

    try:
        asyncio.run(measured())
    except Exception as error:
        if found and not as_json:
            print_table(found)
        sentence, code = explain(error)
        tell(sentence)
        sys.exit(code)
    if not as_json:
        print_table(found)


if __name__ == "__main__":
    app(prog_name="scripts/bench")
