"""The world outside of a VM: a network namespace on the other end of its second network card, with no way out."""

from __future__ import annotations

import secrets
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.machine import Agent, Disk, Vm, running_vm

#: The VM, as seen from outside; and two strangers. Addresses of documentation, which exist here only.
VM4, VM6 = "198.51.100.1", "2001:db8:7::1"
EVA, OTTO = "198.51.100.9", "198.51.100.10"
EVA6 = "2001:db8:7::9"

_CARD = f"""\
[Match]
MACAddress=52:54:00:12:34:57

[Network]
Address={VM4}/24
Address={VM6}/64
LinkLocalAddressing=no
IPv6AcceptRA=no

[Link]
RequiredForOnline=no
"""

#: Opens connections all at the same time, each tried until the seconds are over; prints how many were answered, and
#: the seconds that went by.
_MANY = """\
import selectors, socket, sys, time
here, there, port, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
waiting, answered, begun = selectors.DefaultSelector(), [], time.monotonic()
for _ in range(count):
    one = socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET)
    one.setblocking(False)
    one.bind((here, 0))
    one.connect_ex((there, port))
    waiting.register(one, selectors.EVENT_WRITE)
while waiting.get_map() and time.monotonic() - begun < seconds:
    for key, _ in waiting.select(0.2):
        waiting.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            answered.append(key.fileobj)
print(len(answered), time.monotonic() - begun)
"""


class Outside:
    """The namespace."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end."""
        command = ["ip", "netns", "exec", self._name, *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done

    def scan(self, address: str, ports: str, *, udp: bool = False) -> dict[int, str]:
        """What of the ports answers in any way, by nmap: `open` or `closed`; what says nothing is left out."""
        six = ["-6"] if ":" in address else []
        kind = ["-sU"] if udp else ["-sS"]
        pace = ["-T4", "--min-rate", "3000", "--max-retries", "2", "--host-timeout", "5m"]
        said = self.run("nmap", *six, *kind, "-Pn", "-n", *pace, "-p", ports, "-oX", "-", address).stdout
        tree = ElementTree.fromstring(said)  # noqa: S314 - of our own nmap
        assert tree.find(".//ports") is not None, said
        found = {}
        for port in tree.iterfind(".//ports/port"):
            state = port.find("state")
            assert state is not None
            found[int(port.attrib["portid"])] = state.attrib["state"]
        for extra in tree.iterfind(".//ports/extraports"):
            assert "filtered" in extra.attrib["state"], said
        return {port: state for port, state in found.items() if "filtered" not in state}

    def connections(self, count: int, port: int, *, here: str = EVA, seconds: float = 5) -> tuple[int, float]:
        """How many of so many connections at the same time are answered, and how long that was tried."""
        to = VM6 if ":" in here else VM4
        said = self.run(sys.executable, "-c", _MANY, here, to, str(port), str(count), str(seconds)).stdout
        answered, spent = said.split()
        return int(answered), float(spent)

    def gets_in(self, port: int, *, here: str = EVA) -> bool:
        """Whether a connection is answered."""
        return self.connections(1, port, here=here)[0] == 1


@contextmanager
def vm_seen_from_outside(disk: Disk, agent: Agent, folder: Path) -> Iterator[tuple[Vm, Outside]]:
    """A new VM, and strangers on a network of its second card, during the block."""
    stem = f"zk{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", stem], check=True)
    try:
        with running_vm(disk, agent, folder, second=stem) as vm:
            subprocess.run(["ip", "link", "set", stem, "netns", stem], check=True)
            outside = Outside(stem)
            for command in (
                "link set lo up",
                f"link set {stem} up",
                f"addr add {EVA}/24 dev {stem}",
                f"addr add {OTTO}/24 dev {stem}",
                f"addr add {EVA6}/64 dev {stem} nodad",
            ):
                outside.run("ip", *command.split())
            vm.run("cat >/etc/systemd/network/10-outside.network && networkctl reload", stdin=_CARD)
            yield vm, outside
    finally:
        subprocess.run(["ip", "netns", "delete", stem], check=True)
