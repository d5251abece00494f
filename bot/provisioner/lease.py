"""The right to act on an instance, held in the database by one provisioner at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from bot.store import Database, now
from bot.store.tables import Instance

#: Seconds; a holder that died is taken over after this long.
LEASE = 30.0


class LeaseHeld(Exception):
    """Somebody else is acting on this instance now; try again when they are done."""


class LeaseLost(Exception):
    """The lease could not be renewed in time, so the work on the instance was stopped."""


def new_owner() -> str:
    """A name that no other holder has."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"


@asynccontextmanager
async def lease(database: Database, instance_id: str, owner: str) -> AsyncIterator[None]:
    """Hold the lease during the block, renewing it; raises :class:`LeaseHeld`, or :class:`LeaseLost` from the block."""
    if not await _take(database, instance_id, owner):
        raise LeaseHeld(f"{instance_id} is being worked on by another process; try again in a moment.")
    holder = asyncio.current_task()
    lost = False

    async def renew() -> None:
        nonlocal lost
        loop = asyncio.get_running_loop()
        ends = loop.time() + LEASE
        while True:
            await asyncio.sleep(LEASE / 6)
            began = loop.time()
            try:
                if not await _take(database, instance_id, owner):
                    break
                ends = began + LEASE
            except (SQLAlchemyError, OSError):
                # The database may come back in time; past that, somebody else may hold the lease.
                if loop.time() + LEASE / 6 >= ends:
                    break
        lost = True
        if holder is not None:
            holder.cancel()

    renewing = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if lost and holder is not None:
            holder.uncancel()
            raise LeaseLost(f"The lease of {instance_id} was lost.") from None
        raise
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        # What was done is done, whether or not this can be written down; else the lease ends by itself.
        with contextlib.suppress(SQLAlchemyError, OSError):
            await _give(database, instance_id, owner)


async def release_dead(database: Database) -> None:
    """Free the leases of processes of this machine that are no longer there, so that a restart need not wait."""
    prefix = f"{socket.gethostname()[:32]}:"
    async with database.read() as session:
        held = await session.execute(
            select(Instance.id, Instance.lease_owner).where(Instance.lease_owner.like(prefix + "%"))
        )
        leases = [(instance_id, owner) for instance_id, owner in held if owner is not None]
    for instance_id, owner in leases:
        if not _runs(owner.removeprefix(prefix).split(":")[0]):
            await _give(database, instance_id, owner)


def is_live(owner: str | None, until: float) -> bool:
    """Whether somebody may be at work under this lease; on another machine one cannot know before it ends."""
    if owner is None or until < now():
        return False
    prefix = f"{socket.gethostname()[:32]}:"
    return not owner.startswith(prefix) or _runs(owner.removeprefix(prefix).split(":")[0])


def _runs(pid: str) -> bool:
    return Path("/proc", pid).exists()


async def _take(database: Database, instance_id: str, owner: str) -> bool:
    free = or_(Instance.lease_owner.is_(None), Instance.lease_owner == owner, Instance.lease_until < now())
    async with database.write() as session:
        taken = await session.execute(
            update(Instance)
            .where(Instance.id == instance_id, free)
            .values(lease_owner=owner, lease_until=now() + LEASE)
            .returning(Instance.id)
        )
        return taken.one_or_none() is not None


async def _give(database: Database, instance_id: str, owner: str) -> None:
    async with database.write() as session:
        await session.execute(
            update(Instance)
            .where(Instance.id == instance_id, Instance.lease_owner == owner)
            .values(lease_owner=None, lease_until=0.0)
        )
