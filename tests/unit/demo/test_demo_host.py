"""The demo's bridge stands beside a real service's and whatever else the machine routes."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.demo.host import NoFreeSubnet, demo_host, free_subnet
from infra.spec import HostSpec

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
STATE = Path("/srv/demo")
#: Where demos look, 10.87.0.0 to 10.102.255.255.
ALL = [IPv4Network("10.87.0.0/16"), IPv4Network("10.88.0.0/13"), IPv4Network("10.96.0.0/13")]


def routes(*networks: IPv4Network) -> str:
    """`/proc/net/route` of a machine with a default route and these."""
    return HEAD + "".join(
        f"br0\t{_kernel(int(network.network_address))}\t00000000\t0001\t0\t0\t0\t{_kernel(int(network.netmask))}\t0\t0\t0\n"
        for network in (IPv4Network("0.0.0.0/0"), *networks)
    )


def _kernel(number: int) -> str:
    return number.to_bytes(4, "little").hex().upper()


def test_the_same_folder_gets_the_same_network() -> None:
    assert free_subnet(STATE, routes()) == free_subnet(STATE, routes())


@given(st.sets(st.integers(0, 255), max_size=200))
def test_a_routed_network_is_never_taken(taken: set[int]) -> None:
    used = [IPv4Network((int(ALL[0].network_address) + (number << 12), 20)) for number in taken]
    found = free_subnet(STATE, routes(*used))
    assert not any(found.overlaps(network) for network in [*used, IPv4Network("10.86.0.0/16")])


def test_where_everything_is_taken_it_says_so() -> None:
    with pytest.raises(NoFreeSubnet, match="Docker networks"):
        free_subnet(STATE, routes(*ALL))


def test_the_demos_host_differs_from_the_real_one_in_its_bridge_and_leaves_the_machines_swap() -> None:
    real = HostSpec(image="zaki/openclaw:1", host_file="/state/host.json", runtime="runsc")
    demo = demo_host(real, STATE, IPv4Network("10.90.16.0/20"))
    assert (demo.image, demo.host_file, demo.runtime) == (real.image, real.host_file, real.runtime)
    assert demo.network != real.network
    assert demo.bridge != real.bridge
    assert demo.docker_part.subnet_of(demo.subnet)
    assert demo.host_swap_mib == 0
    assert demo_host(real, STATE / "other", demo.subnet).bridge != demo.bridge
