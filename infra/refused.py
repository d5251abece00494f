"""Addresses that nothing on behalf of an instance may reach, whatever its policy."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

#: Everything that is not the public internet, and what clouds serve their metadata at.
REFUSED = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers, tailnets, Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's own services, at a public address
            "169.254.0.0/16",  # metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # Oracle's metadata among them
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)


def refused_but(exempt: Iterable[IPv4Address]) -> list[IPv4Network]:
    """The refused networks without these addresses, in order."""
    networks = list(REFUSED)
    for address in exempt:
        hole = IPv4Network(address)
        networks = [
            part
            for network in networks
            for part in (network.address_exclude(hole) if hole.subnet_of(network) else (network,))
        ]
    return sorted(networks)
