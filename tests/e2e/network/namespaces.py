"""A host with instances and an internet of our own, in network namespaces that have no way out.

Every target stands on an interface that is made here. What arrives there is counted by the kernel, before anything
listens to it, so nothing that is let through goes unseen.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.firewall import FirewallSpec, render_bridge_table, render_loader, render_table

#: Addresses that exist in these namespaces only.
GATEWAY, ANNA, BERT = "10.86.0.1", "10.86.0.2", "10.86.0.3"
HOST_PUBLIC, HOST_SECOND = "93.184.216.1", "93.184.215.9"
PUBLIC, PUBLIC_TOO = "93.184.216.34", "93.184.217.35"
METADATA = "169.254.169.254"
REFUSED_TARGETS = (
    METADATA,
    "10.99.0.5",
    "172.31.0.5",
    "192.168.7.5",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.5",
    "198.51.100.7",
    "203.0.113.9",
    "240.0.0.5",
)
PUBLIC6, GATEWAY6 = "2001:db8:1::34", "fd00:86::1"
#: A container of somebody else's, whose port 80 Docker has published as the host's 8443.
OTHER, PUBLISHED = "172.30.0.2", 8443
HOST_PORTS = (22, 443, 8081, 9000)
INTERNET_PORTS = (22, 25, 80, 443, 465, 587, 8080, 9000)

_LISTEN = ("--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service")
_STAND = Path(__file__).parent / "stand.py"
_SEEN = """\
add table inet seen
delete table inet seen
table inet seen {
  set four { type ipv4_addr . inet_proto . inet_service; size 65535; flags dynamic; }
  set six { type ipv6_addr . inet_proto . inet_service; size 65535; flags dynamic; }
  chain arriving {
    type filter hook prerouting priority -150; policy accept;
    iifname "lo" accept
    meta l4proto { tcp, udp } ct state new update @four { ip daddr . meta l4proto . th dport }
    meta l4proto { tcp, udp } ct state new update @six { ip6 daddr . meta l4proto . th dport }
  }
}
"""


@dataclass(frozen=True)
class Attempt:
    """One try to reach something."""

    to: str
    port: int
    kind: str = "tcp"
    #: Address that it claims to come from; empty: its own.
    source: str = ""

    @property
    def landing(self) -> tuple[str, str, int]:
        """How the kernel of the target counts it."""
        return self.to, self.kind, self.port


class Namespace:
    """A network namespace of a test's own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *argv: str, user: str | None = None) -> list[str]:
        """The command inside the namespace, as a user of the machine who may listen at any port."""
        # `ip netns exec` takes a copy of all mounts along: a disk that another test unmounts would stay in use.
        become = [] if user is None else ["setpriv", f"--reuid={user}", "--regid=65534", "--clear-groups", *_LISTEN]
        return ["nsenter", f"--net=/run/netns/{self.name}", *become, *argv]

    def run(self, *argv: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end."""
        done = subprocess.run(self.command(*argv), input=text, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} in {self.name}: {done.stdout}{done.stderr}")
        return done

    def ip(self, *commands: str) -> None:
        """Lines of `ip -batch`."""
        self.run("ip", "-batch", "-", text="\n".join(commands) + "\n")

    def attempt(self, *attempts: Attempt, user: str | None = None) -> list[str]:
        """Make all of them at the same time; each one's outcome: `answered`, or why not."""
        asked = json.dumps([[one.to, one.port, one.kind, one.source] for one in attempts])
        command = self.command(sys.executable, str(_STAND), "attempt", user=user)
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
        found: list[str] = json.loads(done.stdout)
        return found

    def watch(self) -> None:
        """Count what arrives from now on."""
        self.run("nft", "-f", "-", text=_SEEN)

    def landed(self) -> set[tuple[str, str, int]]:
        """Address, protocol and port of all that has arrived since `watch`."""
        found: set[tuple[str, str, int]] = set()
        for name in ("four", "six"):
            answer = json.loads(self.run("nft", "-j", "list", "set", "inet", "seen", name).stdout)
            [members] = [entry["set"].get("elem", []) for entry in answer["nftables"] if "set" in entry]
            found |= {(member["concat"][0], member["concat"][1], member["concat"][2]) for member in members}
        return found

    @contextmanager
    def serving(self, ports: Sequence[int], *, tls: Path | None = None) -> Iterator[None]:
        """Something that greets whoever connects to one of the ports or sends to it, at every address."""
        arguments = [",".join(map(str, ports)), *([str(tls)] if tls else [])]
        with self.running(sys.executable, str(_STAND), "serve", *arguments, until="serving"):
            yield

    @contextmanager
    def running(self, *argv: str, until: str, user: str | None = None) -> Iterator[subprocess.Popen[str]]:
        """A program in it during the block, from when it has printed a line with `until` on."""
        process = subprocess.Popen(
            self.command(*argv, user=user), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if until in line:
                    break
            else:
                raise AssertionError(f"{argv[0]} ended: {''.join(said)}")
            yield process
        finally:
            process.terminate()
            process.communicate()


@dataclass(frozen=True)
class World:
    """A host with two instances, a container of somebody else's, and the internet."""

    host: Namespace
    anna: Namespace
    bert: Namespace
    other: Namespace
    internet: Namespace
    #: Where the host's firewall is.
    folder: Path
    firewall: FirewallSpec

    @property
    def members(self) -> Path:
        """The provisioner's file."""
        return self.folder / "run/egress/members"

    def load(self, action: str = "load") -> subprocess.CompletedProcess[str]:
        """Run the loader on the host."""
        return self.host.run("bash", str(self.folder / "firewall"), action, check=False)

    def nft(self, *argv: str) -> str:
        """Run `nft` on the host."""
        return self.host.run("nft", *argv).stdout

    def unload(self) -> None:
        """Take the tables away, and what brings traffic of one bridge before them."""
        self.host.run("nft", "-f", "-", text="add table inet zaki\ndelete table inet zaki\n")
        self.host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0")

    def write(self, spec: FirewallSpec) -> None:
        """Put the files of a firewall in place."""
        (self.folder / "firewall.nft").write_text(render_table(spec))
        (self.folder / "bridge.nft").write_text(render_bridge_table(spec))
        (self.folder / "firewall").write_text(render_loader(spec))

    def watch(self) -> None:
        """Count what arrives anywhere from now on."""
        for namespace in (self.host, self.anna, self.bert, self.other, self.internet):
            namespace.watch()

    def landed(self) -> set[tuple[str, str, int]]:
        """What has arrived anywhere but at the host, for which a greeting tells."""
        return self.internet.landed() | self.anna.landed() | self.bert.landed() | self.other.landed()


@contextmanager
def world(
    folder: Path,
    spec: FirewallSpec,
    *,
    plain: Sequence[int] = INTERNET_PORTS,
    host_ports: Sequence[int] = HOST_PORTS,
    instances: Sequence[int] = (),
) -> Iterator[World]:
    """Build it, and take it away after the block; on the internet `plain` ports greet, on the host `host_ports`.

    `instances` are processes whose networks, cut off from where they were, are those of the two instances.
    """
    if os.geteuid() != 0:
        pytest.fail("Network namespaces are made by root: run this test as root.", pytrace=False)
    stem = f"zk{secrets.token_hex(3)}"
    names = [f"{stem}-{part}" for part in ("host", "anna", "bert", "other", "net")]
    with contextlib.ExitStack() as stack:
        processes = dict(zip(names[1:3], instances, strict=False))
        for name in names:
            made_of = ["attach", name, str(processes[name])] if name in processes else ["add", name]
            subprocess.run(["ip", "netns", *made_of], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=True)
        host, anna, bert, other, internet = (Namespace(name) for name in names)
        for given, _ in zip((anna, bert), instances, strict=False):
            given.ip("link delete eth0")
            given.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0")
        made = World(host, anna, bert, other, internet, folder, spec)
        _wire(made)
        made.write(spec)
        if host_ports:
            stack.enter_context(host.serving(host_ports))
        for namespace in (anna, bert, other):
            stack.enter_context(namespace.serving(INTERNET_PORTS))
        stack.enter_context(internet.serving(plain))
        yield made


def _wire(world: World) -> None:
    host, internet = world.host, world.internet
    for namespace in (host, world.anna, world.bert, world.other, internet):
        namespace.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        # Else packets wait for the kernel's look for a second owner of an address, and land when nobody expects them.
        namespace.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        namespace.ip("link set lo up")
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    host.ip("link add zaki0 type bridge", "link add docker1 type bridge", "link set zaki0 up", "link set docker1 up")
    host.ip(f"addr add {GATEWAY}/16 dev zaki0", f"addr add {GATEWAY6}/64 dev zaki0 nodad")
    host.ip("addr add 172.30.0.1/24 dev docker1")
    for bridge, namespace, address, gateway in (
        ("zaki0", world.anna, f"{ANNA}/16", GATEWAY),
        ("zaki0", world.bert, f"{BERT}/16", GATEWAY),
        ("docker1", world.other, f"{OTHER}/24", "172.30.0.1"),
    ):
        outer = f"v{namespace.name[-4:]}"
        host.ip(f"link add {outer} type veth peer name eth0 netns {namespace.name}")
        host.ip(f"link set {outer} master {bridge} up")
        namespace.ip("link set eth0 up", f"addr add {address} dev eth0", f"route add default via {gateway}")
        number = address.partition("/")[0].rpartition(".")[2]
        if bridge == "zaki0":
            namespace.ip(f"addr add fd00:86::{number}/64 dev eth0 nodad", f"route add ::/0 via {GATEWAY6}")
    host.ip(f"link add up0 type veth peer name eth0 netns {internet.name}", "link set up0 up")
    host.ip(f"addr add {HOST_PUBLIC}/24 dev up0", f"addr add {HOST_SECOND}/32 dev lo")
    internet.ip("link set eth0 up", f"addr add {PUBLIC}/24 dev eth0", "addr add 2001:db8:1::34/64 dev eth0 nodad")
    internet.ip(*(f"addr add {address}/32 dev lo" for address in (PUBLIC_TOO, *REFUSED_TARGETS)))
    host.ip(f"route add default via {PUBLIC}", "addr add 2001:db8:1::1/64 dev up0 nodad")
    internet.ip(f"route add default via {HOST_PUBLIC}", "route add ::/0 via 2001:db8:1::1")
    # As Docker does it.
    host.run(
        "nft",
        "-f",
        "-",
        text=f"""\
table ip nat {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local tcp dport {PUBLISHED} dnat to {OTHER}:80
  }}
}}
""",
    )
