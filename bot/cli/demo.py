"""`zaki demo`: a try without a token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Yes, ask, print_json, say, stdout

if TYPE_CHECKING:
    from bot.demo.say import Answer, Step

    Watch = Callable[[tuple[Step, ...]], None]

#: What each stage means to somebody who reads the timeline for the first time.
_WORDS = {
    "received": "received",
    "admitted": "admitted",
    "creating": "declaring it with Pulumi",
    "declared": "container declared",
    "started": "gateway started",
    "claimed": "taken from the warm pool",
    "woken": "woken",
    "ready": "instance ready",
    "delivered": "delivered",
    "replied": "first reply",
}


def demo(
    text: Annotated[
        str | None, typer.Option("--say", metavar="TEXT", help="Send TEXT as somebody new, print the reply, stop.")
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Remove everything that the demo made.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The chat page's port; 0 takes 8484, or a free one.")] = 0,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Try Zaki without a token: a simulated Telegram with a chat page, and a real OpenClaw for everybody there."""
    import logging

    from bot import logs
    from bot.demo.settings import demo_state

    state = demo_state()
    if text is not None and not text.strip():
        raise CliError("--say needs some text.", ExitCode.USAGE)
    if clean and text is not None:
        raise CliError("--clean and --say do not go together; use one of them.", ExitCode.USAGE)
    logs.configure(level=logging.WARNING if text is not None or clean else logging.INFO)
    if clean:
        _clean(state, yes=yes)
    elif text is not None:
        _say(state, text, port, as_json=as_json)
    else:
        asyncio.run(_run(state, port, as_json=as_json))


async def _run(state: Path, port: int, *, as_json: bool) -> None:
    from bot.demo.app import running_demo
    from bot.serve import stop_signals

    with stop_signals() as stop:
        async with running_demo(state, port, say) as demo:
            if as_json:
                print_json({"page": demo.page, "state": str(state)})
            else:
                host = demo.service.host
                say(f"The demo keeps its instances on {host.bridge} ({host.subnet}), and its state in {state}.")
                typer.echo(f"\nOpen {demo.page} and write to the bot. Ctrl-C stops the demo and its instances.\n")
            await demo.service.main_loop(stop)


def _say(state: Path, text: str, port: int, *, as_json: bool) -> None:
    from bot.demo.say import TurnedAway

    with _progress() as (tell, watch):
        try:
            answer = asyncio.run(_ask_somebody(state, text, port, tell, watch))
        except TurnedAway as refused:
            raise CliError(str(refused), ExitCode.REFUSED) from None
    if as_json:
        print_json(answer.as_json())
    else:
        _print_answer(answer)


async def _ask_somebody(state: Path, text: str, port: int, tell: Callable[[str], None], watch: Watch) -> Answer:
    from bot.serve import stop_signals

    # Ctrl-C and `kill` end it in the same way: what it started is stopped first.
    with stop_signals() as stop:
        asking = asyncio.create_task(_conversation(state, text, port, tell, watch))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([asking, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            raise CliError("Stopped before the reply came.")
        return asking.result()


async def _conversation(state: Path, text: str, port: int, tell: Callable[[str], None], watch: Watch) -> Answer:
    from bot.demo.app import running_demo
    from bot.demo.lock import DemoLock
    from bot.demo.say import say as say_as_somebody
    from bot.demo.visit import visit

    if (page := DemoLock(state).running()) is not None:
        tell(f"writing to the demo that runs at {page}")
        return await visit(state, page, text, watch)
    async with running_demo(state, port, tell, pool=0) as demo:
        tell("sent")
        person = await demo.people.new_user()
        return await say_as_somebody(demo.people, demo.service.database, person, text, watch)


def _clean(state: Path, *, yes: bool) -> None:
    from bot.demo.clean import clean

    if not state.exists():
        say(f"There is nothing to remove: {state} does not exist.")
        return
    ask(f"Remove the demo's instances with their files, its network, and {state}?", yes=yes)
    asyncio.run(clean(state, say))
    say("The demo is gone.")


@contextlib.contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Watch]]:
    """Two ways to tell how far it is: a few words, and a timeline; live on a terminal, a line each elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    status = console.status("starting") if console.is_terminal else None
    shown = 0

    def tell(words: str) -> None:
        if status is not None:
            status.update(words)
        else:
            say(words)

    def watch(steps: tuple[Step, ...]) -> None:
        nonlocal shown
        for step in steps[shown:]:
            console.print(f"{step.seconds:7.2f} s  {_WORDS.get(step.stage, step.stage)}", highlight=False)
        shown = len(steps)
        if status is not None:
            status.update("waiting for the reply")

    with status or contextlib.nullcontext():
        yield tell, watch


def _print_answer(answer: Answer) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = stdout()
    console.print(f"[bold]you[/]   {escape(answer.said)}")
    console.print(f"[bold]{answer.instance}[/]   {escape(answer.reply)}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage in ("received", "ready", "delivered", "replied"):
        found = next((step for step in answer.steps if step.stage == stage), None)
        if found is not None:
            table.add_row(_WORDS[stage], f"{found.seconds:.2f}")
    console.print(table)
