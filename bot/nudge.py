"""Nudges: "look now" between the parts. A lost one costs a second, never a message."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import defaultdict
from enum import StrEnum
from pathlib import Path

#: Every part looks by itself after this many seconds without a nudge.
LOOK_AGAIN = 1.0


class Topic(StrEnum):
    """What there may be to look at."""

    INBOX = "inbox"
    OUTBOX = "outbox"
    WISHES = "wishes"
    INSTANCES = "instances"


class Nudge:
    """Wakes waiting loops of this process, and of a second process over a Unix datagram socket.

    `path` is this process's own socket, `peer` the other's; both None: one process does everything.
    """

    def __init__(self, path: Path | None = None, peer: Path | None = None) -> None:
        self._path = path
        self._peer = peer
        self._count: dict[Topic, int] = defaultdict(int)
        self._waiting: dict[Topic, set[asyncio.Event]] = defaultdict(set)
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Start to listen to the peer; needs a running event loop."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.setblocking(False)
        listener.bind(str(self._path))
        self._path.chmod(0o660)
        asyncio.get_running_loop().add_reader(listener.fileno(), self._receive)
        self._socket = listener

    def close(self) -> None:
        """Stop to listen to the peer."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def ring(self, topic: Topic) -> None:
        """Tell everybody who waits for the topic, here and in the peer, to look now."""
        self._wake(topic)
        if self._peer is not None and self._socket is not None:
            # The peer may be down or its buffer full: it looks by itself soon.
            with contextlib.suppress(OSError):
                self._socket.sendto(topic.encode(), str(self._peer))

    def seen(self, topic: Topic) -> int:
        """A mark to pass to :meth:`wait`, taken before one looks, so that no nudge falls in between."""
        return self._count[topic]

    async def wait(self, topic: Topic, seen: int, timeout: float = LOOK_AGAIN) -> None:  # noqa: ASYNC109
        """Return at the first nudge after the mark `seen`, or after `timeout` seconds."""
        if self._count[topic] != seen:
            return
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await event.wait()
        finally:
            self._waiting[topic].discard(event)

    def _wake(self, topic: Topic) -> None:
        self._count[topic] += 1
        for event in self._waiting[topic]:
            event.set()

    def _receive(self) -> None:
        if self._socket is None:
            return
        while True:
            try:
                word = self._socket.recv(64)
            except (BlockingIOError, InterruptedError):
                return
            with contextlib.suppress(ValueError):
                self._wake(Topic(word.decode("ascii", "replace")))
