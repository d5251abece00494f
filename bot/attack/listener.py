"""Listens at `ADDRESS PORT tcp|udp` each (JSON on the first line of standard input), and prints who comes.

A line `ADDRESS PORT KIND FROM` for each that arrives; `@NAME 0 unix -` for an abstract socket of that name. Needs
nothing but Python, and ends with its standard input.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any


def listeners(wanted: Sequence[tuple[str, int, str]]) -> Iterator[tuple[socket.socket, tuple[str, int, str]]]:
    """A listening socket for each; what cannot be had raises OSError."""
    for address, port, kind in wanted:
        if kind == "unix":
            one = socket.socket(socket.AF_UNIX)
            one.bind("\0" + address.removeprefix("@"))
        else:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            one = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, port))
        if kind != "udp":
            one.listen(64)
        one.setblocking(False)
        yield one, (address, port, kind)


def main() -> None:
    """Listen until standard input ends."""
    waiting = selectors.DefaultSelector()
    for one, target in listeners([tuple(target) for target in json.loads(sys.stdin.readline())]):
        waiting.register(one, selectors.EVENT_READ, target)
    waiting.register(sys.stdin, selectors.EVENT_READ, None)
    print("listening", flush=True)
    while True:
        for key, _ in waiting.select():
            if key.data is None:
                if not sys.stdin.readline():
                    return
                # Everything that came before the question is told before the answer.
                print("asked", flush=True)
                continue
            _take(key.fileobj, key.data)


def _take(one: Any, target: tuple[str, int, str]) -> None:
    with suppress(OSError):
        if target[2] == "udp":
            _, sender = one.recvfrom(64)
            # Whoever has gone again has come all the same.
            print(*target, sender[0], flush=True)
            one.sendto(b"hello\n", sender)
        else:
            connection, sender = one.accept()
            print(*target, sender[0] if sender else "-", flush=True)
            with connection:
                connection.send(b"hello\n")


if __name__ == "__main__":
    main()
