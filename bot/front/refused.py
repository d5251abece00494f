"""Who was refused at the public side: a line each on standard output, by which fail2ban bans (`infra/hardening.py`)."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TextIO

from fastapi import Request

#: Seconds over which lines are counted.
_WINDOW = 60.0
#: Lines of one address and of all in that time: more than a ban takes, and too few to fill a journal.
_LINES_OF_ONE = 10
_LINES_OF_ALL = 600


class RefusedLine:
    """Prints `zaki refused ADDRESS`, with nothing in it that the client wrote."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._since = clock()
        self._lines: Counter[str] = Counter()
        self._all = 0

    def note(self, request: Request) -> None:
        """A request was refused for what it claimed; the client is the one that the TLS proxy saw."""
        address = _told(request.client.host if request.client else "")
        if address is None or not self._may_print(address):
            return
        print(f"zaki refused {address}", file=self._stream or sys.stdout, flush=True)

    def _may_print(self, address: str) -> bool:
        at = self._clock()
        if at - self._since >= _WINDOW:
            self._since, self._all = at, 0
            self._lines.clear()
        if self._all >= _LINES_OF_ALL or self._lines[address] >= _LINES_OF_ONE:
            return False
        self._lines[address] += 1
        self._all += 1
        return True


def _told(text: str) -> str | None:
    """The address as it is written in the line; None where it is none that may be banned, as this machine's own."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local or parsed.is_multicast:
        return None
    return str(parsed)
