"""The same attempts on a live host: two throw-away instances, and targets that Zaki makes for them.

Nothing of a person's is touched, and no address is aimed at that is not this host's own. What would need more than
that, or would take something from people while it is tried, is said not to have been tried.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from bot.attack.scene import Listening, NotTried, Scene, SceneFailed, Target, listening, output
from bot.credentials import ArchiveKey, new_instance_id
from bot.hostfacts import HostFacts
from bot.provisioner import disks
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.egress import EgressSets, Member
from bot.provisioner.stacks import StackManager
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec

#: Stand-ins in a namespace of ours, each an address of its network that nobody is likely to have: the route to it is
#: ours for a minute, so a cloud's own metadata address is never among them.
_INSIDE = {"metadata": "169.254.{}.{}", "private": "10.{}.{}.77"}
_WITHOUT_NAMES = {
    "rebinding": "a name that leads inside would have to be served on the internet; tests/e2e/attacker does it",
    "mail": "only the internet has what it would be aimed at; tests/e2e/attacker has one of its own",
    "published": "no port of a container is published for it; tests/e2e/attacker does it",
    "forged-source": "it would have to land on the internet to be seen; tests/e2e/attacker has one of its own",
    "another-chat": "the throw-away instances are in nobody's name; tests/e2e/attacker has people of its own",
    "another-token": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "another-key": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "forged-headers": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "another-file": "the throw-away instances are in nobody's name; tests/e2e/attacker has people of its own",
    "another-skill": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "another-consent": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "skill-paths": "the front knows no throw-away instance; tests/e2e/attacker has a front of its own",
    "ipv6": "this host has no IPv6 address on the bridge or outside",
    "metadata": "only root can make a network namespace to stand there",
    "private": "only root can make a network namespace to stand there",
    "crowd": "nothing listens for instances on this host now: start `zaki serve`",
}


@dataclass
class _Stands:
    """Listeners tell what came through."""

    listeners: Sequence[Listening]
    _seen: list[int] = field(default_factory=list)

    async def watch(self) -> None:
        """Count from now on."""
        self._seen = [len(await one.arrived()) for one in self.listeners]

    async def landed(self) -> Collection[Target]:
        """What arrived since."""
        found: set[Target] = set()
        for one, seen in zip(self.listeners, self._seen, strict=True):
            found |= set((await one.arrived())[seen:])
        return found


@asynccontextmanager
async def live_scene(host: HostFacts, host_port: int) -> AsyncIterator[Scene]:
    """Two throw-away instances on this host, and what stands around them; all of it is gone after the block.

    Their stacks are in a folder of their own, so that no service takes them for a person's. `host_port` is where Zaki
    listens for instances. Raises the errors of stacks and Docker.
    """
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="zaki-attack-", dir="/var/tmp")))
        # Whoever follows a link to it may be anybody.
        await asyncio.to_thread(folder.chmod, 0o755)
        containers = await exits.enter_async_context(Containers.connect())
        stacks = StackManager(Toolchain.from_pins(), folder / "state", containers)
        exits.push_async_callback(stacks.close)
        image = await exits.enter_async_context(_holding_still(host.image))
        taken = await containers.addresses(host.network)
        attacker, neighbour = (
            InstanceSpec(
                id=new_instance_id(),
                address=address,
                network=host.network,
                image=image,
                volumes=str(host.volumes) if host.volumes is not None and disks.can_mount() else None,
                runtime=host.runtime,
                resolver=host.egress.resolver if host.egress is not None else None,
                # The least that a stack may declare.
                memory_mib=1280,
                swap_mib=2560,
                disk_mib=96,
                inodes=2000,
            )
            for address in _last_free(host, taken)
        )
        egress = EgressSets(host.egress)
        for spec in (attacker, neighbour):
            exits.push_async_callback(stacks.destroy, spec.id)
            exits.push_async_callback(egress.admit, spec.address, None)
            await stacks.up(spec)
            # The laxest of all policies.
            await egress.admit(spec.address, Member(spec.address, None))
            await containers.start(spec.id, spec.pids)
        targets, listeners = await _targets(exits, host, containers, neighbour)
        canaries = folder / "canaries"
        await asyncio.to_thread(canaries.mkdir)
        yield Scene(
            attacker=attacker,
            neighbour=neighbour,
            containers=containers,
            stacks=stacks,
            archive=Archive(folder / "state", ArchiveKey(os.urandom(32)), containers),
            folder=canaries,
            stands=_Stands(listeners),
            targets=targets,
            lacks=_WITHOUT_NAMES,
            gateway=await _front(host, host_port),
        )


async def _targets(
    exits: AsyncExitStack, host: HostFacts, containers: Containers, neighbour: InstanceSpec
) -> tuple[dict[str, list[Target]], list[Listening]]:
    """What can be aimed at here, by the name of the attempt, with who tells what arrived."""
    port = 20_000 + secrets.randbelow(10_000)
    addresses = [address for address in await _own_addresses() if not ip_address(address).is_loopback]
    four = [address for address in addresses if ":" not in address]
    six = [address for address in addresses if ":" in address]
    targets = {
        "host-ports": [Target(address, port, kind) for address in four for kind in ("tcp", "udp")],
        "ipv6": [Target(address, port) for address in six],
    }
    on_host = await exits.enter_async_context(listening([*targets["host-ports"], *targets["ipv6"]]))
    listeners = [on_host]
    process = await containers.process(neighbour.id)
    if os.geteuid() != 0 or process is None:
        return targets, listeners
    targets["neighbour"] = [Target(str(neighbour.address), port, kind) for kind in ("tcp", "udp")]
    inside = ("nsenter", "--target", str(process.pid), "--net")
    listeners.append(await exits.enter_async_context(listening(targets["neighbour"], *inside, python=sys.executable)))
    stand_ins = {
        name: form.format(20 + secrets.randbelow(200), secrets.randbelow(250)) for name, form in _INSIDE.items()
    }
    if any(IPv4Address(address) in host.subnet for address in stand_ins.values()):
        return targets, listeners
    targets |= {name: [Target(to, port, kind) for kind in ("tcp", "udp")] for name, to in stand_ins.items()}
    name = await exits.enter_async_context(_namespace(list(stand_ins.values())))
    wanted = [target for which in stand_ins for target in targets[which]]
    # `ip netns exec` would hold a copy of every mount of the machine, the disks of instances among them.
    there = ("nsenter", f"--net=/run/netns/{name}")
    listeners.append(await exits.enter_async_context(listening(wanted, *there, python=sys.executable)))
    return targets, listeners


@asynccontextmanager
async def _namespace(addresses: Sequence[str]) -> AsyncIterator[str]:
    """A network namespace that has these addresses, to which this host has a route, and no way out."""
    stem = f"zka{secrets.token_hex(3)}"
    await output("ip", "netns", "add", stem)
    try:
        await output("ip", "link", "add", stem, "type", "veth", "peer", "name", "eth0", "netns", stem)
        inside = ("ip", "-n", stem)
        await output("ip", "link", "set", stem, "up")
        await output(*inside, "link", "set", "lo", "up")
        await output(*inside, "link", "set", "eth0", "up")
        for address in addresses:
            await output(*inside, "addr", "add", f"{address}/32", "dev", "eth0")
            await output("ip", "route", "add", f"{address}/32", "dev", stem)
        # Answers find their way, wherever they go: this host takes them.
        await output(*inside, "route", "add", "default", "dev", "eth0")
        await output("sysctl", "-qw", f"net.ipv4.conf.{stem}.proxy_arp=1")
        yield stem
    finally:
        # The link and the routes go with it.
        await output("ip", "netns", "delete", stem)


@asynccontextmanager
async def _holding_still(base: str) -> AsyncIterator[str]:
    """Id of the host's own image with nothing in it that runs."""
    container = (await output("docker", "create", base)).strip()
    try:
        changes = ("--change", 'CMD ["sleep", "1800"]', "--change", "ENTRYPOINT []")
        image = (await output("docker", "commit", *changes, container)).strip()
    finally:
        await output("docker", "rm", container)
    try:
        yield image
    finally:
        await output("docker", "rmi", "--force", image)


def _last_free(host: HostFacts, taken: Collection[str]) -> list[IPv4Address]:
    """Two addresses from the end of the subnet, where the service comes to last."""
    found: list[IPv4Address] = []
    for number in range(int(host.subnet.broadcast_address) - 1, int(host.gateway), -1):
        address = IPv4Address(number)
        if address not in host.docker_range and str(address) not in taken:
            found.append(address)
            if len(found) == 2:
                return found
    raise SceneFailed(f"{host.subnet} has no two free addresses")


async def _own_addresses() -> list[str]:
    found = json.loads(await output("ip", "-j", "addr", "show", "scope", "global"))
    # One that is still being looked for elsewhere cannot be listened at.
    return [
        about["local"]
        for device in found
        for about in device.get("addr_info", [])
        if "local" in about and not about.get("tentative") and not about.get("dadfailed")
    ]


async def _front(host: HostFacts, port: int) -> Target | None:
    """Where Zaki listens for instances; None: it does not now."""

    def reached() -> bool:
        try:
            with socket.create_connection((str(host.gateway), port), 2):
                return True
        except OSError:
            return False

    return Target(str(host.gateway), port) if await asyncio.to_thread(reached) else None


__all__ = ["NotTried", "live_scene"]
