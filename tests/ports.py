"""Ports of the tests' own."""

from __future__ import annotations

import random
import socket

#: Below those that Linux gives to whoever asks for any port or connects, so a server that is restarted finds its own.
_PORTS = range(20000, 32768)


def free_port() -> int:
    """A loopback port that nobody listens on, not given to anybody by the kernel; drawn, so that hardly two get one."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
