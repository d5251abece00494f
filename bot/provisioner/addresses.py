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

    `in_use` are addresses that the world shows taken by others, whatever the table says: where one of them is the
    instance's own, as after a database was restored, it gets another one. Unique under concurrency: a number is claimed
    by one INSERT or one conditional UPDATE. Raises :class:`AddressesExhausted`.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with database.write() as session:
                return await _claim(session, host, instance_id, in_use)
        except IntegrityError:
            continue  # another claim took the same number between our look and our INSERT (PostgreSQL)
    raise AddressesExhausted("No address could be claimed; try again.")


async def take(session: AsyncSession, host: HostFacts, instance_id: str, address: str) -> bool:
    """Give the instance the very address that its container has; False where another has it, or it is not to give."""
    wanted = IPv4Address(address)
    if not _is_ours(host, wanted):
        return False
    row = await session.get(Address, address, with_for_update=True)
    if row is None:
        session.add(Address(address=address, number=int(wanted), instance_id=instance_id, released_at=None))
    elif row.instance_id in (None, instance_id):
        row.instance_id, row.released_at = instance_id, None
    else:
        return False
    await session.flush()
    return True


async def release(session: AsyncSession, instance_id: str) -> None:
    """Give the instance's address back; it rests before somebody else gets it."""
    await session.execute(
        update(Address).where(Address.instance_id == instance_id).values(instance_id=None, released_at=now())
    )


async def _claim(session: AsyncSession, host: HostFacts, instance_id: str, in_use: Collection[str]) -> IPv4Address:
    held = await session.scalar(select(Address.address).where(Address.instance_id == instance_id))
    if held is not None and held not in in_use and _is_ours(host, IPv4Address(held)):
        return IPv4Address(held)
    if held is not None:
        await release(session, instance_id)
    rested = or_(Address.released_at.is_(None), Address.released_at < now() - REST)
    # The host may have been declared anew, with another subnet.
    ours = [Address.number > int(host.gateway), Address.number < int(host.subnet.broadcast_address)]
    ours.append(~Address.number.between(int(host.docker_range[0]), int(host.docker_range[-1])))
    free = (
        select(Address.number)
        .where(Address.instance_id.is_(None), rested, *ours, Address.address.not_in(in_use))
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
    candidate = await _unused(session, host, in_use)
    if candidate is None:
        raise AddressesExhausted(
            f"No address is left in {host.subnet}; delete instances, or declare a larger subnet with `zaki host up`."
        )
    session.add(Address(address=str(candidate), number=int(candidate), instance_id=instance_id, released_at=None))
    await session.flush()
    return candidate


async def _unused(session: AsyncSession, host: HostFacts, in_use: Collection[str]) -> IPv4Address | None:
    """An address that was never given: the one after the last, or at the end of the subnet the first gap."""
    first = int(host.subnet.network_address) + 1
    last = await session.scalar(select(func.max(Address.number)))
    known: Collection[int] = ()
    for begin in (max(first, (last or 0) + 1), first):
        for number in range(begin, int(host.subnet.broadcast_address)):
            candidate = IPv4Address(number)
            if number not in known and str(candidate) not in in_use and _is_ours(host, candidate):
                return candidate
        known = set(await session.scalars(select(Address.number)))
    return None


def _is_ours(host: HostFacts, address: IPv4Address) -> bool:
    """Whether an instance may have it."""
    ends = (host.subnet.network_address, host.subnet.broadcast_address, host.gateway)
    return address in host.subnet and address not in host.docker_range and address not in ends
