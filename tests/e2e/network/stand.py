"""Runs inside a namespace: `serve PORTS [CERTIFICATE]` greets whoever comes, `attempt` tries to reach others.

Needs nothing but Python, so that any user of the machine can run it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import sys
from collections.abc import Sequence

GREETING = b"hello\n"
#: Seconds after which an attempt that nobody answers is over.
PATIENCE = 1.0


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet, then say the same as the other side."""
    try:
        writer.write(GREETING)
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Greets with a datagram."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(GREETING, addr)


async def serve(ports: Sequence[int], certificate: str | None) -> None:
    """Greet at every port until the process is ended."""
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    kept: list[object] = []
    for port in ports:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        kept.append(await asyncio.start_server(greet, sock=listener, ssl=tls))
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.bind(("::", port))
        kept.append(await loop.create_datagram_endpoint(Datagrams, sock=datagrams))
    print("serving", flush=True)
    await asyncio.Event().wait()


async def attempt(to: str, port: int, kind: str, source: str) -> str:
    """Try once, and say what came of it."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await (by_datagram if kind == "udp" else by_connection)(to, port, source)
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


async def by_connection(to: str, port: int, source: str) -> str:
    """Connect, and wait to be greeted."""
    reader, writer = await asyncio.open_connection(to, port, local_addr=(source, 0) if source else None)
    try:
        return "answered" if await reader.readline() == GREETING else "closed"
    finally:
        writer.close()


async def by_datagram(to: str, port: int, source: str) -> str:
    """Send a datagram, and wait for one."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        if source:
            sender.bind((source, 0))
        await loop.sock_connect(sender, (to, port))
        await loop.sock_sendall(sender, GREETING)
        return "answered" if await loop.sock_recv(sender, 64) == GREETING else "closed"


async def attempt_all(attempts: Sequence[tuple[str, int, str, str]]) -> list[str]:
    """Try all of them at the same time."""
    return list(await asyncio.gather(*(attempt(*one) for one in attempts)))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve([int(port) for port in sys.argv[2].split(",")], sys.argv[3] if len(sys.argv) > 3 else None))
    else:
        print(json.dumps(asyncio.run(attempt_all(json.load(sys.stdin)))))
