"""How instances' connections are served: so many from one address, and none that holds a file descriptor for nothing.

Whoever connects is known only once a request's headers are in, so all of this holds before any credential is seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = structlog.get_logger(__name__)


class BridgeProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with bounds for each peer; who exceeds them is cut off, without an answer."""

    #: Connections of one address at a time, in this process; a gateway has some dozens at most.
    most_of_peer: ClassVar[int] = 128
    #: Seconds within which the headers of the first or next request are in.
    head_within: ClassVar[float] = 10.0
    #: Bytes of a request's line and headers.
    largest_head: ClassVar[int] = 65_536
    #: Seconds within which the peer reads on, once the buffers before it are full.
    read_within: ClassVar[float] = 30.0

    _open: ClassVar[Counter[str]] = Counter()

    _peer: str | None = None
    #: Since when no request is under way (the loop's seconds).
    _idle_since = 0.0
    _in_head = False
    _head = 0
    _idle_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or end it where the peer has too many."""
        name = transport.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) else ""
        if self._open[peer] >= self.most_of_peer:
            self.transport = transport
            transport.abort()
            return
        self._peer = peer
        self._open[peer] += 1
        if self._open[peer] == self.most_of_peer:
            _log.warning("an address has as many connections as it may", address=peer)
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._idle_timer = self.loop.call_later(self.head_within, self._end_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer may have another connection."""
        for timer in (self._idle_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._peer is None:
            return
        self._open[self._peer] -= 1
        if self._open[self._peer] <= 0:
            del self._open[self._peer]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head without an end would fill the memory."""
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > self.largest_head:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """A request's line begins."""
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A request's headers are in."""
        self._in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The next request's headers are waited for."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is written to."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer has read on."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _end_if_idle(self) -> None:
        at = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing():
            self._idle_since = at
        left = self._idle_since + self.head_within - at
        if left <= 0:
            # Not close(), which waits until a peer that reads nothing has read the rest.
            self.transport.abort()
        else:
            self._idle_timer = self.loop.call_later(left, self._end_if_idle)
