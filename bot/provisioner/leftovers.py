"""What is not as it should be, outside of the database or in it: found for `zaki doctor`, and never changed here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
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
from bot.store.tables import Address, Instance, Operation, OutboxMessage, Wanted, Wish
from infra.spec import is_instance_id

#: Seconds that Docker and the database each may take to answer.
_PATIENCE = 10.0
#: Seconds between two looks: what only one of them sees was in passing.
_BETWEEN = 1.0
#: Seconds without a change after which a spooled file is not being received any more.
_QUIET = 60.0
_AGAIN = "Start `zaki serve`: it brings this in order by itself. `zaki doctor --fix` does too."
_FIX = "Run `zaki doctor --fix`."


class Kind(StrEnum):
    """What a leftover is, and so what can be done about it."""

    #: Of an instance that the database does not know, and that may hold somebody's files.
    STRANGER = "stranger"
    #: Of an instance that the database does not know, and there are no files of it.
    SHELL = "shell"
    #: An instance is not as it should be, and its `up` brings it in order.
    BROKEN = "broken"
    #: An instance's files are not where they should be; nothing here brings them back.
    LOST = "lost"
    HELPER = "helper"
    OPERATION = "operation"
    ADDRESS = "address"
    SPOOLED = "spooled"
    NETWORK = "network"


@dataclass(frozen=True, order=True)
class Leftover:
    """One thing that a crash or a hand left behind."""

    #: What there is, half a sentence.
    what: str
    #: What to do about it, one sentence.
    cure: str
    kind: Kind
    #: The instance's id; a file's name, an address or a network's name where it is of no instance.
    subject: str


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
    archived: bool


@dataclass
class _Known:
    """What the database knows."""

    rows: dict[str, _Row] = field(default_factory=dict)
    #: Instances with an open operation.
    under_way: set[str] = field(default_factory=set)
    #: Addresses that are given to an instance, with its id.
    addresses: dict[str, str] = field(default_factory=dict)
    #: Names of files that a message waits with.
    spooled: set[str] = field(default_factory=set)


@dataclass
class _There:
    """What there is of instances outside of the database."""

    stacks: dict[str, StackFolder]
    archives: set[str]
    #: None: Docker could not be asked.
    docker: Belongings | None

    @property
    def with_files(self) -> set[str]:
        """Instances that may have files here; without Docker's word, any."""
        if self.docker is None:
            return self.stacks.keys() | self.archives
        return self.archives | self.docker.volumes


async def find_leftovers(settings: Settings) -> Found:
    """Look at this state folder's stacks, archives, spool and database, and at its host's containers and volumes.

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
            file = host_file(settings)
            world = await containers.belongings(HostFacts.read(file).network, str(file))
    except SettingsError:
        unseen.append("this host is not declared")
    # aiodocker raises ValueError where it finds no socket at all.
    except (ContainerError, aiodocker.DockerError, OSError, ValueError, TimeoutError):
        unseen.append("Docker does not answer")
    found: list[Leftover] = []
    if known is not None:
        names = await asyncio.to_thread(_names, settings.state / "stacks")
        stacks = {name: StackFolder(settings.state / "stacks" / name, name) for name in names}
        there = _There(stacks, await asyncio.to_thread(_names, settings.state / "archives"), world)
        found += [*_strangers(known, there), *_of_stacks(known, there), *_of_database(known)]
        found += await asyncio.to_thread(lambda: list(_of_spool(known, settings.state / "spool")))
        if world is not None:
            found += _of_docker(known, there, world)
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
                    Instance.id,
                    Instance.declared_hash,
                    Instance.lease_owner,
                    Instance.lease_until,
                    Instance.archive,
                    Wish.wanted,
                ).outerjoin(Wish, Wish.user_id == Instance.user_id)
            )
            for instance_id, declared, owner, until, archive, wanted in rows:
                known.rows[instance_id] = _Row(
                    declared is not None, wanted == Wanted.ABSENT, is_live(owner, until), archive is not None
                )
            given = select(Address.address, Address.instance_id).where(Address.instance_id.is_not(None))
            known.addresses = {address: str(holder) for address, holder in await session.execute(given)}
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


def _names(folder: Path) -> set[str]:
    """The instances that something in this folder is named after."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if is_instance_id(name)}


def _strangers(known: _Known, there: _There) -> Iterator[Leftover]:
    """All that there is of instances that the database does not know."""
    docker = there.docker
    found: list[tuple[str, str]] = []
    for instance_id, folder in there.stacks.items():
        found.append((instance_id, f"the stack {folder.path} belongs to no instance"))
    for instance_id in there.archives:
        found.append((instance_id, f"the archive of {instance_id} belongs to no instance"))
    if docker is not None:
        found += [(name, f"the container {name} belongs to no instance") for name in docker.containers]
        found += [(name, f"the volume {name} belongs to no instance") for name in docker.volumes]
    for instance_id, what in found:
        if instance_id in known.rows:
            continue
        if instance_id in there.with_files:
            yield Leftover(
                what,
                "It may hold somebody's files: give it back with "
                f"`zaki instance adopt {instance_id} --user TELEGRAM_ID`, "
                f"or remove all of it with `zaki doctor --fix {instance_id}`.",
                Kind.STRANGER,
                instance_id,
            )
        else:
            yield Leftover(what, _FIX, Kind.SHELL, instance_id)


def _of_stacks(known: _Known, there: _There) -> Iterator[Leftover]:
    for instance_id, folder in there.stacks.items():
        row = known.rows.get(instance_id)
        if row is None or row.at_work:
            continue
        for path, lock in folder.locks().items():
            if not lock.is_held():
                yield _broken(f"a dead engine's lock {path}", instance_id)
        try:
            pending = folder.record().pending
        except StackCorrupt as error:
            yield _broken(str(error).rstrip("."), instance_id)
            continue
        if pending:
            yield _broken(f"an operation that the stack of {instance_id} did not see end", instance_id)
    for instance_id, row in known.rows.items():
        if row.declared and not row.leaving and not row.at_work and instance_id not in there.stacks:
            yield _broken(f"{instance_id} has no stack any more", instance_id)


def _of_database(known: _Known) -> Iterator[Leftover]:
    for instance_id in known.under_way:
        row = known.rows.get(instance_id)
        if row is None or not row.at_work:
            what = f"an operation on {instance_id} that nobody is at work on"
            yield Leftover(what, _AGAIN if row else _FIX, Kind.OPERATION, instance_id)
    for address, holder in known.addresses.items():
        if holder not in known.rows:
            what = f"the address {address} is given to {holder}, which is not there"
            yield Leftover(what, _FIX, Kind.ADDRESS, address)


def _of_spool(known: _Known, spool: Path) -> Iterator[Leftover]:
    quiet_since = time.time() - _QUIET
    for path in spool.iterdir() if spool.is_dir() else ():
        try:
            if path.name not in known.spooled and path.stat().st_mtime < quiet_since:
                yield Leftover(f"the file {path} that no message waits with", _AGAIN, Kind.SPOOLED, path.name)
        except FileNotFoundError:
            continue


def _of_docker(known: _Known, there: _There, world: Belongings) -> Iterator[Leftover]:
    ours = known.rows.keys() | there.stacks.keys() | there.archives | world.containers | world.volumes
    for instance_id in world.helpers & ours:
        row = known.rows.get(instance_id)
        if row is None or not row.at_work:
            yield Leftover(f"a helper's container of {instance_id}", _FIX, Kind.HELPER, instance_id)
    for name in world.networks:
        yield Leftover(f"the network {name} of this host is not declared any more", _FIX, Kind.NETWORK, name)
    for instance_id, row in known.rows.items():
        if row.leaving or row.at_work:
            continue
        if row.declared and instance_id not in world.containers:
            yield _broken(f"{instance_id} has no container any more", instance_id)
        if row.archived and instance_id not in there.with_files:
            yield Leftover(
                f"the archive of {instance_id} is gone",
                f"Put STATE/archives/{instance_id} back from your backup before its person writes again.",
                Kind.LOST,
                instance_id,
            )


def _broken(what: str, instance_id: str) -> Leftover:
    return Leftover(what, f"Run `zaki instance up {instance_id}`, or `zaki doctor --fix`.", Kind.BROKEN, instance_id)
