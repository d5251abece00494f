"""Addresses are unique under concurrency, rest after release, and end with a sentence."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network

import pytest
from sqlalchemy import update

from bot.credentials import new_instance_id
from bot.hostfacts import HostFacts
from bot.provisioner.addresses import REST, AddressesExhausted, allocate, release, take
from bot.store import Database, now
from bot.store.tables import Address


def host(subnet: str, docker_range: str) -> HostFacts:
    network = IPv4Network(subnet)
    return HostFacts(
        network="zaki0",
        bridge="zaki0",
        subnet=network,
        gateway=IPv4Address(int(network.network_address) + 1),
        docker_range=IPv4Network(docker_range),
        image="sha256:" + "0" * 64,
        runtime="runc",
    )


HOST = host("10.86.0.0/24", "10.86.0.240/28")


async def test_concurrent_claims_are_unique(database: Database) -> None:
    given = await asyncio.gather(*(allocate(database, HOST, new_instance_id(), ()) for _ in range(40)))
    assert len(set(given)) == 40
    assert all(address in HOST.subnet and address not in HOST.docker_range for address in given)
    assert HOST.gateway not in given


async def test_an_instance_keeps_its_address(database: Database) -> None:
    first = await allocate(database, HOST, "u-aaaaaaaaaa", ())
    assert await allocate(database, HOST, "u-aaaaaaaaaa", ()) == first


async def test_an_address_in_use_in_the_world_is_passed_over(database: Database) -> None:
    assert await allocate(database, HOST, "u-aaaaaaaaaa", {"10.86.0.2", "10.86.0.3"}) == IPv4Address("10.86.0.4")


async def test_a_released_address_rests_for_a_day(database: Database) -> None:
    first = await allocate(database, HOST, "u-aaaaaaaaaa", ())
    async with database.write() as session:
        await release(session, "u-aaaaaaaaaa")
    assert await allocate(database, HOST, "u-bbbbbbbbbb", ()) != first
    async with database.write() as session:
        await session.execute(update(Address).where(Address.address == str(first)).values(released_at=now() - REST - 1))
    assert await allocate(database, HOST, "u-cccccccccc", ()) == first


async def test_the_end_of_the_subnet_is_a_sentence(database: Database) -> None:
    small = host("10.87.0.0/29", "10.87.0.6/31")
    for letter in "abcd":
        await allocate(database, small, "u-" + letter * 10, ())
    with pytest.raises(AddressesExhausted, match=r"10\.87\.0\.0/29"):
        await allocate(database, small, "u-eeeeeeeeee", ())


async def test_the_last_addresses_go_to_as_many_as_there_are(database: Database) -> None:
    small = host("10.87.0.0/29", "10.87.0.6/31")
    ids = [new_instance_id() for _ in range(12)]
    given = await asyncio.gather(*(allocate(database, small, name, ()) for name in ids), return_exceptions=True)
    addresses = [str(one) for one in given if isinstance(one, IPv4Address)]
    assert sorted(addresses) == ["10.87.0.2", "10.87.0.3", "10.87.0.4", "10.87.0.5"]
    assert all(isinstance(one, AddressesExhausted) for one in given if not isinstance(one, IPv4Address))


async def test_a_released_address_goes_to_one_of_many(database: Database) -> None:
    first = await allocate(database, HOST, "u-aaaaaaaaaa", ())
    async with database.write() as session:
        await release(session, "u-aaaaaaaaaa")
        await session.execute(update(Address).values(released_at=now() - REST - 1))
    given = await asyncio.gather(*(allocate(database, HOST, new_instance_id(), ()) for _ in range(10)))
    assert len(set(given)) == 10
    assert first in given


async def test_an_address_that_a_stranger_has_is_exchanged(database: Database) -> None:
    mine = await allocate(database, HOST, "u-aaaaaaaaaa", ())
    other = await allocate(database, HOST, "u-aaaaaaaaaa", {str(mine)})
    assert other != mine
    assert await allocate(database, HOST, "u-aaaaaaaaaa", {str(mine)}) == other
    async with database.write() as session:
        await session.execute(update(Address).where(Address.address == str(mine)).values(released_at=now() - REST - 1))
    # Rested, and still the stranger's.
    assert await allocate(database, HOST, "u-bbbbbbbbbb", {str(mine)}) not in (mine, other)


async def test_a_container_that_is_adopted_keeps_its_address(database: Database) -> None:
    async with database.write() as session:
        assert await take(session, HOST, "u-aaaaaaaaaa", "10.86.0.9")
        assert await take(session, HOST, "u-aaaaaaaaaa", "10.86.0.9")
        assert not await take(session, HOST, "u-bbbbbbbbbb", "10.86.0.9")
        for never in ("10.86.0.0", "10.86.0.1", "10.86.0.241", "10.86.0.255", "10.99.0.9"):
            assert not await take(session, HOST, "u-cccccccccc", never)
    assert await allocate(database, HOST, "u-aaaaaaaaaa", ()) == IPv4Address("10.86.0.9")
    async with database.write() as session:
        await release(session, "u-aaaaaaaaaa")
        # Its own again, however short its rest.
        assert await take(session, HOST, "u-aaaaaaaaaa", "10.86.0.9")


async def test_gaps_are_given_when_the_end_is_reached(database: Database) -> None:
    small = host("10.87.0.0/29", "10.87.0.6/31")
    async with database.write() as session:
        assert await take(session, small, "u-aaaaaaaaaa", "10.87.0.5")
    given = [str(await allocate(database, small, "u-" + letter * 10, {"10.87.0.3"})) for letter in "bc"]
    assert given == ["10.87.0.2", "10.87.0.4"]
    with pytest.raises(AddressesExhausted):
        await allocate(database, small, "u-dddddddddd", {"10.87.0.3"})


async def test_another_subnet_gives_its_own_addresses(database: Database) -> None:
    old = await allocate(database, host("10.200.0.0/24", "10.200.0.240/28"), "u-aaaaaaaaaa", ())
    await allocate(database, host("10.200.0.0/24", "10.200.0.240/28"), "u-bbbbbbbbbb", ())
    async with database.write() as session:
        await release(session, "u-bbbbbbbbbb")
        await session.execute(update(Address).where(Address.instance_id.is_(None)).values(released_at=now() - REST - 1))
    for name in ("u-aaaaaaaaaa", "u-cccccccccc"):
        given = await allocate(database, HOST, name, ())
        assert given in HOST.subnet
        assert given != old
