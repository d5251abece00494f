"""`zaki skill`: which skills instances may have, and which they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bot.cli.output import (
    AsJson,
    CliError,
    ExitCode,
    Row,
    Yes,
    ask,
    print_details,
    print_json,
    print_rows,
    say,
)

if TYPE_CHECKING:
    from bot.front.skills import Mirror
    from bot.skills.names import SkillName
    from bot.store import Database

app = typer.Typer(help="Skills from ClawHub: vetted, kept, recalled.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="@owner/name, or @owner/name@version.")]
Scope = Annotated[
    str, typer.Argument(metavar="NAME", help="@owner/name@version, @owner/name, @owner, or * for every skill.")
]
Reason = Annotated[str, typer.Option(help="One sentence: whoever asks for the skill is told.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take the rule back.")]

Result = TypeVar("Result")

_COLUMNS = ("skill", "version", "verdict", "instances", "size", "why")
_FOUND = ("skill", "version", "title", "summary", "known")
_SETS = ("kind", "set", "title", "skill", "version", "policy", "known")
_CHANGES = ("skill", "instances", "recalled", "why")


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the versions that were vetted, with what came of it and how many instances have them."""

    async def read(database: Database) -> list[Row]:
        from bot.cli.skill_records import version_rows

        async with database.read() as session:
            return await version_rows(session)

    rows = asyncio.run(_with_database(read))
    nothing = "No skill was asked for yet; `zaki skill search` finds some."
    print_rows(rows, _COLUMNS, as_json=as_json, nothing=nothing)


@app.command("show")
def show(name: Name, as_json: AsJson = False) -> None:
    """Show what is known of a skill or of one version: verdict, reasons, what it asks for, who has it."""
    skill, version = _parse(name)

    async def read(database: Database) -> Row:
        from bot.cli.skill_records import skill_details

        async with database.read() as session:
            return await skill_details(session, skill, version)

    _print(asyncio.run(_with_database(read)), as_json=as_json)


@app.command("search")
def search(
    words: Annotated[list[str], typer.Argument(help="What the skill should do.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 25,
    as_json: AsJson = False,
) -> None:
    """Search ClawHub, or what is kept of it while it does not answer."""

    async def find(mirror: Mirror) -> list[Row]:
        from bot.cli.skill_records import found_rows
        from bot.front.skills.listing import Listing

        found = await Listing(mirror).search(" ".join(words), limit)
        if "hint" in found:
            say(str(found["hint"]))
        async with mirror.database.read() as session:
            return await found_rows(session, found["results"])

    rows = asyncio.run(_with_mirror(find))
    print_rows(rows, _FOUND, as_json=as_json, nothing="Nothing was found.")


@app.command("vet")
def vet(name: Name, as_json: AsJson = False) -> None:
    """Fetch a version, by default the newest, vet it anew, and show what came of it."""
    skill, version = _parse(name)

    async def look(mirror: Mirror) -> tuple[bool, Row]:
        from bot.cli.skill_records import skill_details
        from bot.front.skills.errors import Forbidden, NotThere, TakenBack
        from bot.skills.names import Reference

        wanted = version or (await mirror.skill(skill.slug, skill.owner)).latest
        if wanted is None:
            raise CliError(f"{skill} has no version that can be installed.")
        passed = False
        try:
            await mirror.vet(Reference(skill, wanted))
            passed = True
        except NotThere as error:
            raise CliError(f"{skill}@{wanted}: {error.sentence}") from None
        except (Forbidden, TakenBack) as error:
            say(error.sentence)
        async with mirror.database.read() as session:
            return passed, await skill_details(session, skill, wanted)

    passed, details = asyncio.run(_with_mirror(look))
    _print(details, as_json=as_json)
    if not passed:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("allow")
def allow(name: Scope, reason: Reason = "", undo: Undo = False) -> None:
    """Overrule vetting's judgements of a skill: registry's doubts, look-alike name, static checks.

    What holds all the same: an archive that is not safe to unpack, bytes that changed, and a registry that calls it
    malicious. A recall of exactly this is taken back.
    """
    lifted = asyncio.run(_with_database(lambda database: _rule(database, name, "allow", reason, undo)))
    if undo:
        say(f"The rule for {name} is gone; vetting decides.")
    else:
        say(f"{name} is allowed{'; its recall is taken back' if lifted else ''}.")


@app.command("deny")
def deny(name: Scope, reason: Reason = "", undo: Undo = False) -> None:
    """Serve a skill to no instance any more; those who have it keep it (`zaki skill recall` takes it from them).

    Of several rules the narrowest holds: `zaki skill deny '*'` leaves only what is allowed by name.
    """
    asyncio.run(_with_database(lambda database: _rule(database, name, "deny", reason, undo)))
    say(f"The rule for {name} is gone; vetting decides." if undo else f"{name} is denied.")


@app.command("recall")
def recall(
    name: Name,
    # It follows on "… has been removed from your assistant." as it is.
    reason: Annotated[
        str, typer.Option(help="One sentence: owners and instances are told.")
    ] = "Zaki's operator took it back.",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a skill, or one version, back: from the mirror at once, and from every instance that has it."""
    skill, version = _parse(name)
    ask(f"Take {name} back from the mirror and from every instance?", yes=yes)

    async def take(mirror: Mirror) -> Row:
        done = await mirror.recall(skill, version, reason)
        return {"recall": done.id, "skill": name, "reason": reason, "instances": list(done.instances)}

    done = asyncio.run(_with_mirror(take))
    if as_json:
        print_json(done)
        return
    having = done["instances"]
    said = "No instance has it." if not having else f"Marked to be removed from {', '.join(having)}."
    say(f"{name} is no longer served. {said}")


@app.command("sync")
def sync(as_json: AsJson = False) -> None:
    """Ask ClawHub's security check about every kept version again, and recall what turned bad."""

    async def again(mirror: Mirror) -> list[Row]:
        return [
            {
                "skill": str(change.reference),
                "instances": change.instances,
                "recalled": change.recalled is not None,
                "why": change.says,
            }
            for change in await mirror.check_again()
        ]

    rows = asyncio.run(_with_mirror(again))
    print_rows(rows, _CHANGES, as_json=as_json, nothing="Nothing changed.")
    kept = [row for row in rows if not row["recalled"] and row["instances"]]
    for row in kept:
        say(f"{row['skill']} is no longer served, and {row['instances']} instances have it: `zaki skill recall`?")


@app.command("sets")
def sets(as_json: AsJson = False) -> None:
    """Print the sets of recommended skills, by need and by plan, with what was made of each skill so far."""
    from bot.settings import load_settings
    from bot.skills.sets import SetsError, load

    settings = load_settings()
    try:
        found = load(settings.skill_sets)
    except SetsError as error:
        raise CliError(str(error)) from None

    async def read(database: Database) -> list[Row]:
        from bot.cli.skill_records import set_rows

        async with database.read() as session:
            return await set_rows(session, found)

    rows = asyncio.run(_with_database(read))
    print_rows(rows, _SETS, as_json=as_json, nothing="The file has no sets.")


def _print(details: Row, *, as_json: bool) -> None:
    """Details; for people without what there is none of."""
    shown = {name: value for name, value in details.items() if as_json or value not in ([], {}, None)}
    print_details(shown, as_json=as_json)


async def _rule(database: Database, name: str, effect: str, reason: str, undo: bool) -> int:
    from bot.skills import recalls, rules
    from bot.skills.names import BadName, SkillName
    from bot.store.tables import SkillEffect

    try:
        about = rules.scope(name)
    except BadName as error:
        raise CliError(str(error), ExitCode.USAGE) from None
    async with database.write() as session:
        if undo:
            if not await rules.remove_rule(session, about):
                raise CliError(f"There is no rule for {name}; `zaki skill show` lists those of a skill.")
            return 0
        await rules.set_rule(session, about, SkillEffect(effect), reason)
        if effect == "deny" or not about.slug:
            return 0
        return await recalls.lift(session, SkillName(about.owner, about.slug), about.version or None)


def _parse(name: str) -> tuple[SkillName, str | None]:
    from bot.skills.names import BadName, parse

    try:
        return parse(name)
    except BadName as error:
        raise CliError(str(error), ExitCode.USAGE) from None


async def _with_database(work: Callable[[Database], Awaitable[Result]]) -> Result:
    from bot.cli.records import existing_database

    async with existing_database() as database:
        return await work(database)


async def _with_mirror(work: Callable[[Mirror], Awaitable[Result]]) -> Result:
    import httpx

    from bot.cli.records import existing_database
    from bot.front.skills import Mirror
    from bot.front.skills.errors import SkillError
    from bot.settings import load_settings

    settings = load_settings()
    async with existing_database(settings) as database, httpx.AsyncClient(trust_env=False) as http:
        mirror = Mirror(settings, database, http)
        try:
            return await work(mirror)
        except SkillError as error:
            raise CliError(error.sentence) from None
        finally:
            await mirror.close()
