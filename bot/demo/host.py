"""The demo's own host stack: a bridge apart from a real service's, so that both fit on one machine."""

from __future__ import annotations

import dataclasses
import hashlib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bot.hostfacts import HostFacts
from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackManager
from bot.toolchain import Toolchain
from infra.spec import HostSpec

#: Demos take one of the 256 networks of this size from here on; a real host's is 10.86.0.0/16.
_FIRST = IPv4Address("10.87.0.0")
_PREFIX = 20


class NoFreeSubnet(Exception):
    """Every network that a demo may take is in use; the message says what to do."""


async def ensure_host(state: Path) -> HostFacts:
    """Declare the demo's network and image, unchanged where they are there; returns what the services read of it."""
    facts = state / "host.json"
    async with Containers.connect() as containers:
        stacks = StackManager(Toolchain.from_pins(), state, containers)
        try:
            subnet = HostFacts.read(facts).subnet if facts.exists() else free_subnet(state, _routes())
            await stacks.host_up(demo_host(stacks.host_spec(), state, subnet))
        finally:
            await stacks.close()
    return HostFacts.read(facts)


async def remove_host(state: Path) -> None:
    """Remove the demo's network."""
    async with Containers.connect() as containers:
        stacks = StackManager(Toolchain.from_pins(), state, containers)
        try:
            await stacks.host_down()
        finally:
            await stacks.close()


def demo_host(host: HostSpec, state: Path, subnet: IPv4Network) -> HostSpec:
    """The host as it is declared for a real service, but with the demo's own bridge."""
    name = f"zaki-{_digest(state).hex()[:8]}"
    # The machine's swap is a real host's to declare: scripts/setup brings what a demo needs.
    return dataclasses.replace(host, network=name, bridge=name, subnet=subnet, docker_range=None, host_swap_mib=0)


def free_subnet(state: Path, routes: str) -> IPv4Network:
    """A network that no route of this machine overlaps; the same folder begins its search at the same place.

    `routes` is the content of `/proc/net/route`. Raises :class:`NoFreeSubnet`.
    """
    taken = [_route(line) for line in routes.splitlines()[1:] if line.strip()]
    start = _digest(state)[0]
    for offset in range(256):
        first = _FIRST + ((start + offset) % 256 << (32 - _PREFIX))
        subnet = IPv4Network((first, _PREFIX))
        if not any(route.prefixlen > 0 and route.overlaps(subnet) for route in taken):
            return subnet
    raise NoFreeSubnet(f"No network from {_FIRST} on is free; remove Docker networks that nobody uses.")


def _routes() -> str:
    return Path("/proc/net/route").read_text()


def _route(line: str) -> IPv4Network:
    """Destination and mask, which the kernel writes in the processor's byte order."""
    fields = line.split()
    destination, mask = (int.from_bytes(bytes.fromhex(fields[index]), "little") for index in (1, 7))
    return IPv4Network((destination & mask, mask.bit_count()))


def _digest(state: Path) -> bytes:
    return hashlib.sha256(str(state).encode()).digest()
