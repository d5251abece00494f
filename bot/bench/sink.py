"""Webhooks of instances that take every update at once, as OpenClaw does, and remember when."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from bot.endpoints import WEBHOOK_PORT

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_UPDATE = re.compile(rb'"update_id":\s*(\d+)')
_ANSWER = b"HTTP/1.1 200 OK\r\nx-openclaw-delivery-accepted: durable\r\ncontent-length: 0\r\n\r\n"


class Sink:
    """When each update arrived: :func:`time.perf_counter` by update id, the first arrival counts."""

    def __init__(self) -> None:
        self.arrivals: dict[int, float] = {}

    @asynccontextmanager
    async def listening(self, addresses: Iterable[str]) -> AsyncIterator[None]:
        """Take updates at the webhook's port of each address while the block runs."""
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(lambda: _Webhook(self), address, WEBHOOK_PORT) for address in addresses]
        try:
            yield
        finally:
            for server in servers:
                server.close()

    def take(self, body: bytes) -> None:
        """Note an update's arrival."""
        if found := _UPDATE.search(body):
            self.arrivals.setdefault(int(found[1]), time.perf_counter())


class _Webhook(asyncio.Protocol):
    """Just enough HTTP for a client that keeps its connection, so that the machine's time is the service's."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server gives nothing else
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            self._sink.take(self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWER)
