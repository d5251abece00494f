"""Runs in the VM: one container forges frames, and what its neighbour and the host see of them is printed as JSON.

Arguments: process ids in the network namespaces of the sender and of the neighbour, and the bridge's device.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path

_ALL, _ARP, _FOUR, _SIX, _OTHER = 3, 0x0806, 0x0800, 0x86DD, 0x88B5
_EVERYBODY = b"\xff" * 6
_LIBC = ctypes.CDLL(None, use_errno=True)


def enter(path: str) -> None:
    """Go into a network namespace."""
    with Path(path).open() as there:
        if _LIBC.setns(there.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), path)


def card(device: str) -> tuple[socket.socket, bytes, bytes]:
    """A socket for the frames of a device of this namespace, with its address below and above."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    end.bind((device, _ALL))
    end.settimeout(30)
    with socket.socket() as asking:
        said = fcntl.ioctl(asking, 0x8915, struct.pack("256s", device.encode()))
    return end, end.getsockname()[4], said[20:24]


def frame(to: bytes, by: bytes, kind: int, payload: bytes, mark: str) -> bytes:
    """A frame that is told apart by what comes after its payload."""
    return to + by + struct.pack("!H", kind) + payload + f"<{mark}>".encode().ljust(32)


def arp(mac: bytes, address: bytes, asked: bytes) -> bytes:
    """Who has `asked`? says `address`, at `mac`."""
    return struct.pack("!HHBBH6s4s6s4s", 1, _FOUR, 6, 4, 1, mac, address, b"\0" * 6, asked)


def udp4(source: bytes, target: bytes) -> bytes:
    """IPv4 and UDP for 32 bytes to port 9."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 60, 0, 0, 64, 17, 0, source, target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return (
        head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + struct.pack("!HHHH", 9, 9, 40, 0)
    )


def udp6() -> bytes:
    """IPv6 and UDP for 32 bytes, to everybody on the link."""
    source, target = (socket.inet_pton(socket.AF_INET6, name) for name in ("fe80::5", "ff02::1"))
    return struct.pack("!IHBB", 6 << 28, 40, 17, 64) + source + target + struct.pack("!HHHH", 9, 9, 40, 0)


def seen(end: socket.socket, last: str) -> list[str]:
    """The marks of the frames that come, up to the last one."""
    found: list[str] = []
    while last not in found:
        data = end.recv(4096)
        if b"<" in data and data.rstrip().endswith(b">"):
            found.append(data[data.rindex(b"<") + 1 : data.rindex(b">")].decode())
    return sorted(set(found))


def main() -> None:
    """Forge, and tell what came of it."""
    sender_id, neighbour_id, bridge = sys.argv[1:]
    here = f"/proc/{os.getpid()}/ns/net"
    host, host_mac, gateway = card(bridge)
    home = os.open(here, os.O_RDONLY)
    enter(f"/proc/{neighbour_id}/ns/net")
    neighbour, neighbour_mac, neighbour_ip = card("eth0")
    enter(f"/proc/{sender_id}/ns/net")
    sender, mac, ip = card("eth0")
    _LIBC.setns(home, 0x40000000)
    elsewhere = socket.inet_aton("192.0.2.1")
    for mark, to, kind, payload in (
        ("asks", _EVERYBODY, _ARP, arp(mac, ip, gateway)),
        ("as-gateway", _EVERYBODY, _ARP, arp(mac, gateway, neighbour_ip)),
        ("as-gateway-to-neighbour", neighbour_mac, _ARP, arp(mac, gateway, neighbour_ip)),
        ("as-stranger", _EVERYBODY, _ARP, arp(mac, elsewhere, gateway)),
        ("ipv4", neighbour_mac, _FOUR, udp4(ip, neighbour_ip)),
        ("ipv6", _EVERYBODY, _SIX, udp6()),
        ("other", _EVERYBODY, _OTHER, b""),
    ):
        sender.send(frame(to, mac, kind, payload, mark))
    # What these two see last, they see after all that was sent before.
    sender.send(frame(host_mac, mac, _ARP, arp(mac, ip, gateway), "last"))
    host.send(frame(_EVERYBODY, host_mac, _OTHER, b"", "last"))
    print(json.dumps({"host": seen(host, "last"), "neighbour": seen(neighbour, "last")}))


if __name__ == "__main__":
    main()
