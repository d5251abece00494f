"""Updates sent to the webhook at a steady rate, as Telegram's server would send them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field

#: Telegram's own default is 40; Zaki asks for 100.
_CONNECTIONS = 100
#: Seconds; the server closes connections that are idle for 5.
_IDLE = 4.0


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_at: float


@dataclass
class Sent:
    """What was measured; times are of :func:`time.perf_counter`, by update id."""

    #: Seconds from the request's first byte to the answer's.
    acks: dict[int, float] = field(default_factory=dict)
    acked_at: dict[int, float] = field(default_factory=dict)
    refused: int = 0


class Load:
    """A client of one webhook that keeps its connections; a library's overhead would be a good part of the figure."""

    def __init__(self, host: str, port: int, path: str, secret: str) -> None:
        self._host, self._port = host, port
        self._head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nX-Telegram-Bot-Api-Secret-Token: {secret}\r\n"
        self._idle: asyncio.LifoQueue[_Connection | None] = asyncio.LifoQueue()
        for _ in range(_CONNECTIONS):
            self._idle.put_nowait(None)
        self._ids = itertools.count(1)

    async def run(self, people: list[int], rate: float, seconds: float) -> Sent:
        """Send `rate` updates a second, the people in turns, whether or not answers come."""
        sent = Sent()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
                group.create_task(self._send(next(self._ids), people[number % len(people)], sent))
        return sent

    async def close(self) -> None:
        """Close the connections."""
        while not self._idle.empty():
            if (connection := self._idle.get_nowait()) is not None:
                connection.writer.close()

    async def _send(self, update_id: int, person: int, sent: Sent) -> None:
        body = _update(update_id, person)
        connection = await self._connection()
        reader = connection.reader
        began = time.perf_counter()
        connection.writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        now = time.perf_counter()
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        connection.used_at = now
        self._idle.put_nowait(connection)
        if not head.startswith(b"HTTP/1.1 200"):
            sent.refused += 1
            return
        sent.acks[update_id], sent.acked_at[update_id] = now - began, now

    async def _connection(self) -> _Connection:
        connection = await self._idle.get()
        if connection is not None:
            if time.perf_counter() - connection.used_at < _IDLE:
                return connection
            connection.writer.close()
        reader, writer = await asyncio.open_connection(self._host, self._port)
        return _Connection(reader, writer, time.perf_counter())


def _update(update_id: int, person: int) -> bytes:
    sender = {"id": person, "is_bot": False, "first_name": "Ada", "language_code": "en"}
    chat = {"id": person, "type": "private", "first_name": "Ada"}
    message = {"message_id": update_id, "from": sender, "chat": chat, "date": int(time.time()), "text": "And then?"}
    return json.dumps({"update_id": update_id, "message": message}).encode()
