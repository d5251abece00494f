"""`zaki doctor --attack`: what a hostile instance would get on this host."""

from __future__ import annotations

from bot.attack.judges import Verdict, judge_all
from bot.attack.live import live_scene
from bot.cli.output import CliError, print_json, say, stdout
from bot.hostfacts import HostFacts, host_file
from bot.settings import Settings


async def attack(settings: Settings, *, as_json: bool) -> bool:
    """Make every attempt that can be made here, and print what came of them; whether none succeeded.

    Raises :class:`CliError` where not one could be made.
    """
    host = HostFacts.read(host_file(settings))
    port = int(settings.effective_instances_listen(host.gateway).rpartition(":")[2])
    say("Two throw-away instances are made, which takes a minute; nothing of a person's is touched.")
    found: list[Verdict] = []
    async with live_scene(host, port) as scene:
        async for verdict in judge_all(scene):
            found.append(verdict)
    if as_json:
        print_json([verdict.as_json() for verdict in found])
    else:
        _show(found)
    tried = [verdict for verdict in found if verdict.tried]
    if not tried:
        raise CliError("Not one attempt could be made; `zaki doctor` may know why.")
    succeeded = sum(verdict.succeeded for verdict in tried)
    say(f"{len(tried)} attempts were made, {succeeded} succeeded; {len(found) - len(tried)} were not tried.")
    return succeeded == 0


def _show(found: list[Verdict]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "attempt", "what came of it"):
        table.add_column(column, overflow="fold")
    for verdict in found:
        mark = "[red]succeeded[/]" if verdict.succeeded else "[green]stopped[/]" if verdict.tried else "not tried"
        table.add_row(mark, verdict.attempt.name, escape(verdict.words or verdict.attempt.control))
    stdout().print(table)
