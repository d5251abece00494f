"""`zaki doctor --fix`: brings in order what `zaki doctor` found, and removes what is nobody's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bot.cli.output import CliError, ExitCode, Row, ask, say
from bot.cli.records import existing_database
from bot.hostfacts import HostFacts, host_file
from bot.provisioner.app import Provisioner
from bot.provisioner.cleaning import StillNeeded, remove, remove_instance
from bot.provisioner.containers import ContainerError
from bot.provisioner.lease import LeaseHeld
from bot.provisioner.leftovers import Kind, Leftover, find_leftovers
from bot.provisioner.single import provisioning
from bot.provisioner.stackresults import StackError
from bot.provisioner.work import InstanceBroken
from bot.settings import Settings
from bot.store import Database
from bot.store.tables import Instance
from infra.spec import is_instance_id

#: What is kept, whatever is asked: only its instance's name removes it, or nothing does.
_KEPT = (Kind.STRANGER, Kind.LOST)
#: Why one thing could not be brought in order; the others still are.
_TROUBLE = (StillNeeded, LeaseHeld, InstanceBroken, ContainerError, StackError, OSError)


async def fix(settings: Settings, *, yes: bool) -> list[Row]:
    """Bring in order what can be, without removing anybody's files; a row for each thing that was found.

    Raises :class:`CliError` where not all could be looked at, or nobody agrees.
    """
    async with _everything_seen(settings) as (database, leftovers):
        doing = [thing for thing in leftovers if thing.kind not in _KEPT]
        kept = [thing for thing in leftovers if thing.kind in _KEPT]
        for thing in kept:
            say(f"Kept: {thing.what}. {thing.cure}")
        rows = [_row(thing, "kept") for thing in kept]
        if not doing:
            say("There is nothing to bring in order.")
            return rows
        for thing in doing:
            say(f"{'To repair' if thing.kind is Kind.BROKEN else 'To remove'}: {thing.what}.")
        ask("Bring this in order?", yes=yes)
        async with provisioning(settings, database) as provisioner:
            settled: dict[tuple[Kind, str], Row] = {}
            for thing in doing:
                # One `up` of an instance, or one removal, settles all that was found of it.
                key = (thing.kind, thing.subject)
                outcome = settled.get(key) or await _settle(provisioner, thing)
                settled[key] = outcome
                rows.append({**outcome, "what": thing.what})
        return rows


async def fix_instances(settings: Settings, ids: Sequence[str], *, yes: bool) -> list[Row]:
    """Remove all that there is of these instances, files too, none of which the database may know.

    Raises :class:`CliError` where one of them is somebody's or not here, or nobody agrees.
    """
    for instance_id in ids:
        if not is_instance_id(instance_id):
            raise CliError(f"{instance_id} is no instance's id; `zaki doctor` names them.", ExitCode.USAGE)
    async with _everything_seen(settings) as (database, leftovers):
        found: dict[str, list[Leftover]] = {}
        for instance_id in dict.fromkeys(ids):
            async with database.read() as session:
                if await session.get(Instance, instance_id) is not None:
                    raise CliError(
                        f"{instance_id} is no leftover; `zaki instance rm {instance_id}` deletes it.", ExitCode.REFUSED
                    )
            kinds = (Kind.STRANGER, Kind.SHELL)
            found[instance_id] = [t for t in leftovers if t.subject == instance_id and t.kind in kinds]
            if not found[instance_id]:
                raise CliError(f"There is nothing of {instance_id} on this host; `zaki doctor` names what there is.")
            for thing in found[instance_id]:
                say(f"To remove: {thing.what}.")
        ask(f"Remove {' and '.join(found)} for good, with all files?", yes=yes)
        rows = []
        async with provisioning(settings, database) as provisioner:
            for instance_id, things in found.items():
                try:
                    await remove_instance(provisioner.context, instance_id)
                    outcome, error = "removed", None
                    say(f"Removed {instance_id}.")
                except _TROUBLE as trouble:
                    outcome, error = "failed", str(trouble)
                    say(str(trouble))
                rows += [_row(thing, outcome, error) for thing in things]
        return rows


async def _settle(provisioner: Provisioner, thing: Leftover) -> Row:
    """Do what is to be done about one thing, and say so."""
    try:
        if thing.kind is Kind.BROKEN:
            await provisioner.reconciler.declare(thing.subject)
            say(f"Repaired {thing.subject}.")
            return _row(thing, "repaired")
        await remove(provisioner.context, thing)
        say(f"Removed {thing.what.removesuffix(' belongs to no instance')}.")
        return _row(thing, "removed")
    except _TROUBLE as error:
        say(f"Left as it is, {thing.what}: {error}")
        return _row(thing, "failed", str(error))


def _row(thing: Leftover, outcome: str, error: str | None = None) -> Row:
    return {"what": thing.what, "kind": thing.kind.value, "outcome": outcome, "error": error}


@asynccontextmanager
async def _everything_seen(settings: Settings) -> AsyncIterator[tuple[Database, list[Leftover]]]:
    """What is left, told only where all of it was looked at: else something might look like nobody's."""
    HostFacts.read(host_file(settings))
    async with existing_database(settings) as database:
        found = await find_leftovers(settings)
        if found.unseen:
            raise CliError(f"Nothing was changed, because not all can be seen: {', '.join(found.unseen)}.")
        yield database, list(found.leftovers)
