"""Addresses of the bridge's subnet, given out by the database."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bot.hostfacts import HostFacts
from bot.store import Database, now
from bot.store.tables import Address

#: Seconds that a released address rests: connection tracking and caches may still know its last owner.
REST = 24 * 3600.0

_ATTEMPTS = 20


class AddressesExhausted(Exception):
    """The subnet has no free address; declare a larger one for the host, or delete instances."""


async def allocate(database: Database, host: HostFacts, instance_id: str, in_use: Collection[str]) -> IPv4Address:
    """The instance's address, given now unless it has one.

    `in_use` are addresses that the world shows taken, whatever the table says. Unique under concurrency: a number is
    claimed by one INSERT or one conditional UPDATE. Raises :class:`AddressesExhausted`.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with database.write() as session:
                return await _claim(session, host, instance_id, in_use)
        except IntegrityError:
            continue  # another claim took the same number between our look and our INSERT (PostgreSQL)
    raise AddressesExhausted("No address could be claimed; try again.")


async def release(session: AsyncSession, instance_id: str) -> None:
    """Give the instance's address back; it rests before somebody else gets it."""
    await session.execute(
        update(Address).where(Address.instance_id == instance_id).values(instance_id=None, released_at=now())
    )


async def _claim(session: AsyncSession, host: HostFacts, instance_id: str, in_use: Collection[str]) -> IPv4Address:
    held = await session.scalar(select(Address.address).where(Address.instance_id == instance_id))
    if held is not None:
        return IPv4Address(held)
    rested = or_(Address.released_at.is_(None), Address.released_at < now() - REST)
    free = (
        select(Address.number)
        .where(Address.instance_id.is_(None), rested, Address.address.not_in(in_use))
        .order_by(Address.released_at)
        .limit(1)
    )
    claimed = await session.scalar(
        update(Address)
        .where(Address.number == free.scalar_subquery(), Address.instance_id.is_(None))
        .values(instance_id=instance_id, released_at=None)
        .returning(Address.address)
    )
    if claimed is not None:
        return IPv4Address(claimed)
    number = await session.scalar(select(func.coalesce(func.max(Address.number), int(host.gateway)) + 1))
    candidate = IPv4Address(int(number or 0))
    while str(candidate) in in_use or candidate in host.docker_range or candidate == host.gateway:
        candidate += 1
    if candidate not in host.subnet or candidate == host.subnet.broadcast_address:
        raise AddressesExhausted(
            f"No address is left in {host.subnet}; delete instances, or declare a larger subnet with `zaki host up`."
        )
    session.add(Address(address=str(candidate), number=int(candidate), instance_id=instance_id, released_at=None))
    await session.flush()
    return candidate
