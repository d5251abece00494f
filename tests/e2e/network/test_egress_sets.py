"""The provisioner's hand in the firewall: members come, go and survive a reload, in the kernel's own sets."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bot.egress import Egress
from bot.hostfacts import EgressFacts
from bot.provisioner.egress import EgressSets, EgressUnavailable, Member
from tests.e2e.network.namespaces import ANNA, BERT, GATEWAY, PUBLIC, Attempt, World

_ANNA, _BERT = IPv4Address(ANNA), IPv4Address(BERT)


@pytest.fixture
def sets(guarded: World) -> EgressSets:
    """The provisioner's side of the host's firewall."""
    proxies = {"standard": f"{GATEWAY}:3128", "large": f"{GATEWAY}:3129"}
    facts = EgressFacts(members=guarded.members, resolver=IPv4Address(GATEWAY), proxies=proxies)
    return EgressSets(facts, nft=guarded.host.command("nft"))


def reaches(world: World) -> tuple[bool, bool]:
    """Whether either instance reaches the internet."""
    tried = Attempt(PUBLIC, 443)
    return world.anna.attempt(tried) == ["answered"], world.bert.attempt(tried) == ["answered"]


async def test_members_come_and_go(guarded: World, sets: EgressSets) -> None:
    await sets.admit(_ANNA, sets.member(_ANNA, "standard", Egress.OPEN))
    assert reaches(guarded) == (True, False)
    await sets.admit(_ANNA, sets.member(_ANNA, "standard", Egress.NONE))
    assert reaches(guarded) == (False, False)
    await sets.admit(_ANNA, sets.member(_ANNA, "large", Egress.LIST))
    assert guarded.members.read_text() == f"{ANNA} 3129\n"
    assert f"{ANNA} . 3129" in guarded.nft("list", "set", "inet", "zaki", "egress_list")
    # Nothing of what it was before is left, whatever the file knows of it.
    guarded.members.write_text("")
    await sets.admit(_ANNA, None)
    assert ANNA not in guarded.nft("list", "set", "inet", "zaki", "egress_list")


async def test_a_refill_is_the_whole_truth(guarded: World, sets: EgressSets) -> None:
    await sets.admit(_ANNA, Member(_ANNA, None))
    await sets.refill([Member(_BERT, None)])
    assert reaches(guarded) == (False, True)
    guarded.nft("delete", "table", "inet", "zaki")
    assert guarded.load("check").returncode == 0
    assert reaches(guarded) == (False, True)


async def test_changes_beside_reloads_are_not_lost(guarded: World, sets: EgressSets) -> None:
    addresses = [IPv4Address(f"10.86.7.{number}") for number in range(1, 31)]

    async def reload() -> None:
        for _ in range(5):
            await asyncio.to_thread(guarded.load)

    await asyncio.gather(reload(), *(sets.admit(address, Member(address, None)) for address in addresses))
    loaded = guarded.nft("list", "set", "inet", "zaki", "egress_open")
    assert [address for address in addresses if f"{address}" not in loaded] == []
    assert len(guarded.members.read_text().splitlines()) == len(addresses)


async def test_without_the_table_nobody_is_let_out_and_it_is_said(guarded: World, sets: EgressSets) -> None:
    guarded.nft("delete", "table", "inet", "zaki")
    with pytest.raises(EgressUnavailable, match="puts it back"):
        await sets.admit(_ANNA, Member(_ANNA, None))


async def test_a_host_without_a_firewall_lets_all_out_and_holds_nobody_to_less() -> None:
    sets = EgressSets(None, nft=("false",))
    await sets.admit(_ANNA, Member(_ANNA, None))
    await sets.refill([])
    assert sets.lack("standard", Egress.OPEN) is None
    assert "zaki:firewall" in str(sets.lack("standard", Egress.NONE))
    assert "zaki:firewall" in str(sets.lack("standard", Egress.LIST))


def test_a_plan_without_a_list_is_told(tmp_path: Path) -> None:
    sets = EgressSets(EgressFacts(members=tmp_path / "members", resolver=IPv4Address(GATEWAY), proxies={}))
    assert "zaki:egress_lists" in str(sets.lack("standard", Egress.LIST))
    assert sets.lack("standard", Egress.NONE) is None
