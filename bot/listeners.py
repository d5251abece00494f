"""The sockets that the service listens on: bound here, or handed over by systemd."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

#: Linux's IP_FREEBIND and IPV6_FREEBIND, which Python's socket module does not name.
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
#: The first file descriptor that systemd hands over.
_FIRST_PASSED = 3
_BACKLOG = 2048


class ListenError(Exception):
    """The service cannot listen where it should; the message says what to change."""


def passed_sockets(environment: Mapping[str, str] | None = None) -> dict[str, socket.socket]:
    """Listening sockets that systemd passed to this process, by their `FileDescriptorName=`."""
    environment = os.environ if environment is None else environment
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    passed = {}
    for offset, name in zip(range(count), names, strict=False):
        listener = socket.socket(fileno=_FIRST_PASSED + offset)
        listener.set_inheritable(False)
        listener.setblocking(False)
        passed[name] = listener
    return passed


def listen(host: str, port: int, setting: str, *, free: bool = False) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    `free` binds to an address that does not exist yet, as that of a bridge that comes up with Docker. `setting` is the
    one to change where the address is taken. Raises :class:`ListenError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if free and family == socket.AF_INET:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        elif free:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason = "is in use; stop what listens there"
        else:
            reason = f"cannot be bound ({error.strerror}); use an address of this machine"
        raise ListenError(f"{host}:{port} {reason}, or set {setting}.") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """`http://host:port` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
