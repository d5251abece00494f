"""Addresses are unique under concurrency, rest after release, and end with a sentence."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv4Network

import pytest
from sqlalchemy import update

from bot.credentials import new_instance_id
from bot.hostfacts import HostFacts
from bot.provisioner.addresses import REST, AddressesExhausted, allocate, release
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
