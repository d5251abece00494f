"""What should not be there any more: found for `zaki doctor`, and never removed here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiodocker
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from bot.hostfacts import HostFacts, host_file
from bot.provisioner.containers import Belongings, ContainerError, Containers
from bot.provisioner.lease import is_live
from bot.provisioner.stackfolder import StackCorrupt, StackFolder
from bot.settings import Settings, SettingsError
from bot.store import Database
from bot.store.tables import Instance, Operation, OutboxMessage, Wanted, Wish
from infra.spec import is_instance_id

#: Seconds that Docker and the database each may take to answer.
_PATIENCE = 10.0
#: Seconds between two looks: what only one of them sees was in passing.
_BETWEEN = 1.0
#: Seconds without a change after which a spooled file is not being received any more.
_QUIET = 60.0
_AGAIN = "Start `zaki serve`: it brings this in order by itself."


@dataclass(frozen=True, order=True)
class Leftover:
    """One thing that a crash or a hand left behind."""

    #: What there is, half a sentence.
    what: str
    #: What to do about it, one sentence.
    cure: str


@dataclass(frozen=True)
class Found:
    """What a look saw, and what it could not see."""

    leftovers: tuple[Leftover, ...] = ()
    #: Half a sentence for each part that could not be looked at.
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    declared: bool
    leaving: bool
    at_work: bool


@dataclass
class _Known:
    """What the database knows."""

    rows: dict[str, _Row] = field(default_factory=dict)
    #: Instances with an open operation.
    under_way: set[str] = field(default_factory=set)
    #: Names of files that a message waits with.
    spooled: set[str] = field(default_factory=set)


async def find_leftovers(settings: Settings) -> Found:
    """Look at this state folder's stacks, spool and database, and at its host's containers and volumes.

    Nothing is changed, and nothing of another state folder is looked at: an instance belongs to the host whose network
    it is on.
    """
    first = await _look(settings)
    if not first.leftovers:
        return first
    # A service may be at work: what is made or removed just now is in one place and not yet in the other.
    await asyncio.sleep(_BETWEEN)
    second = await _look(settings)
    return Found(tuple(sorted(set(first.leftovers) & set(second.leftovers))), second.unseen)


async def _look(settings: Settings) -> Found:
    unseen = []
    known: _Known | None = None
    world: Belongings | None = None
    try:
        async with asyncio.timeout(_PATIENCE):
            known = await _read(settings)
    except (SQLAlchemyError, OSError, TimeoutError):
        unseen.append("the database does not answer")
    try:
        async with asyncio.timeout(_PATIENCE), Containers.connect() as containers:
            world = await containers.belongings(HostFacts.read(host_file(settings)).network)
    except SettingsError:
        unseen.append("this host is not declared")
    # aiodocker raises ValueError where it finds no socket at all.
    except (ContainerError, aiodocker.DockerError, OSError, ValueError, TimeoutError):
        unseen.append("Docker does not answer")
    found = []
    if known is not None:
        folders = await asyncio.to_thread(_folders, settings.state)
        found += [*_of_stacks(known, folders), *_of_operations(known)]
        found += await asyncio.to_thread(lambda: list(_of_spool(known, settings.state / "spool")))
        if world is not None:
            found += _of_docker(known, folders, world)
    return Found(tuple(sorted(found)), tuple(unseen))


async def _read(settings: Settings) -> _Known:
    known = _Known()
    url = settings.effective_database_url
    file = Path(url.partition(":///")[2]) if url.startswith("sqlite") else None
    if file is not None and not file.exists():
        # Looking must not make one.
        return known
    database = Database(url)
    try:
        async with database.read() as session:
            rows = await session.execute(
                select(
                    Instance.id, Instance.declared_hash, Instance.lease_owner, Instance.lease_until, Wish.wanted
                ).outerjoin(Wish, Wish.user_id == Instance.user_id)
            )
            for instance_id, declared, owner, until, wanted in rows:
                known.rows[instance_id] = _Row(declared is not None, wanted == Wanted.ABSENT, is_live(owner, until))
            open_ones = select(Operation.instance_id).where(Operation.finished_at.is_(None))
            known.under_way = set(await session.scalars(open_ones))
            waiting = select(OutboxMessage.files).where(
                OutboxMessage.finished_at.is_(None), OutboxMessage.files.is_not(None)
            )
            for files in await session.scalars(waiting):
                known.spooled.update(str(file["path"]) for file in files or ())
    finally:
        await database.close()
    return known


def _folders(state: Path) -> dict[str, StackFolder]:
    """The stacks that have a folder, by instance id."""
    stacks = state / "stacks"
    names = [path.name for path in stacks.iterdir()] if stacks.is_dir() else []
    return {name: StackFolder(stacks / name, name) for name in names if is_instance_id(name)}


def _of_stacks(known: _Known, folders: dict[str, StackFolder]) -> Iterator[Leftover]:
    for instance_id, folder in folders.items():
        row = known.rows.get(instance_id)
        if row is None:
            yield Leftover(
                f"the stack {folder.path} belongs to no instance",
                f"Remove the container and the volume {instance_id} where nobody needs them, then the folder.",
            )
        if row is not None and row.at_work:
            continue
        for path, lock in folder.locks().items():
            if not lock.is_held():
                yield Leftover(f"a dead engine's lock {path}", f"Run `zaki instance up {instance_id}`.")
        try:
            pending = folder.record().pending
        except StackCorrupt as error:
            yield Leftover(str(error).rstrip("."), f"Run `zaki instance up {instance_id}`: it is made anew.")
            continue
        if pending:
            yield Leftover(
                f"an operation that the stack of {instance_id} did not see end",
                f"Run `zaki instance up {instance_id}`.",
            )
    for instance_id, row in known.rows.items():
        if row.declared and not row.leaving and not row.at_work and instance_id not in folders:
            yield Leftover(f"{instance_id} has no stack any more", f"Run `zaki instance up {instance_id}`.")


def _of_operations(known: _Known) -> Iterator[Leftover]:
    for instance_id in known.under_way:
        row = known.rows.get(instance_id)
        if row is None or not row.at_work:
            yield Leftover(f"an operation on {instance_id} that nobody is at work on", _AGAIN)


def _of_spool(known: _Known, spool: Path) -> Iterator[Leftover]:
    quiet_since = time.time() - _QUIET
    for path in spool.iterdir() if spool.is_dir() else ():
        try:
            if path.name not in known.spooled and path.stat().st_mtime < quiet_since:
                yield Leftover(f"the file {path} that no message waits with", _AGAIN)
        except FileNotFoundError:
            continue


def _of_docker(known: _Known, folders: dict[str, StackFolder], world: Belongings) -> Iterator[Leftover]:
    for instance_id in world.containers - known.rows.keys():
        yield Leftover(
            f"the container {instance_id} belongs to no instance", f"Remove it with `docker rm -f {instance_id}`."
        )
    for instance_id in world.volumes - known.rows.keys():
        yield Leftover(
            f"the volume {instance_id} belongs to no instance",
            f"It may hold somebody's files: look at it, then remove it with `docker volume rm {instance_id}`.",
        )
    for instance_id in world.helpers & (known.rows.keys() | folders.keys() | world.containers | world.volumes):
        row = known.rows.get(instance_id)
        if row is None or not row.at_work:
            yield Leftover(
                f"a helper's container of {instance_id}", f"Remove it with `docker rm -f {instance_id}-helper`."
            )
    for instance_id, row in known.rows.items():
        if row.declared and not row.leaving and not row.at_work and instance_id not in world.containers:
            yield Leftover(f"{instance_id} has no container any more", f"Run `zaki instance up {instance_id}`.")
