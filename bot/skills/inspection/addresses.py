"""The hosts whose addresses a skill's files name."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

#: Hosts of one skill, above which nobody would read them.
MOST_HOSTS = 500
#: Any scheme, its slashes also as JSON may write them, and what follows up to the path.
_ADDRESS = re.compile(rb":(?<=[A-Za-z0-9+.\-]:)(?:\\?/){2}((?:\\?/)?)([^\s\"'<>(){}`/?#\\]+)")
#: Of these alone readers take a slash more for none: `file:///x` is a path.
_WEB = (b"http", b"https", b"ws", b"wss")
_BEHIND = re.compile(r"[^\w.%~$+-]")
_LONGEST_HOST = 253


class TooMany(Exception):
    """There are more than `MOST_HOSTS`."""


def hosts(contents: Iterable[bytes]) -> set[str]:
    """Those that could be outside: with a dot in their name, or numbers; raises :class:`TooMany`.

    Numbers come as one reads them, `203.0.113.7` for `3405803783`.
    """
    found: set[str] = set()
    for content in contents:
        for match in _ADDRESS.finditer(content):
            if match[1] and not content[max(0, match.start() - 5) : match.start()].lower().endswith(_WEB):
                continue
            found.update(_hosts(match[2]))
            if len(found) > MOST_HOSTS:
                raise TooMany
    return found


@lru_cache(maxsize=4096)
def _hosts(authority: bytes) -> frozenset[str]:
    # A URL's host is behind the last @, but in `curl https://one.example;x@two.example` the shell ends it before.
    parts = map(_host, authority.decode("utf-8", "replace").split("@"))
    return frozenset(host for host in parts if host is not None)


def _host(text: str) -> str | None:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:].partition("]")[0].partition("%")[0]))
        except ValueError:
            return None
    host = _BEHIND.split(unquote(text), maxsplit=1)[0].rstrip(".").lower()
    try:
        # As C's libraries read it: also hexadecimal, octal, and with parts left out.
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return host if "." in host and len(host) <= _LONGEST_HOST else None
