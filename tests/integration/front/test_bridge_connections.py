"""What one address can hold of the bridge's side, before anybody knows who it is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from bot.front.app import uvicorn_config
from bot.front.connections import BridgeProtocol
from bot.standins.serving import _Server

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASKED = b"GET / HTTP/1.1\r\nHost: zaki\r\n\r\n"


@dataclass
class Bridge:
    """An app behind the bridge's server, and connections to it."""

    port: int
    #: Lets `/slow` answer.
    go_on: asyncio.Event
    #: `/endless` has been given up.
    given_up: asyncio.Event
    connections: list[Connection] = field(default_factory=list)

    async def connect(self, address: str = "127.0.0.1") -> Connection:
        connection = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self.connections.append(connection)
        return connection

    async def ask(self, connection: Connection, request: bytes = ASKED) -> bytes:
        """The status line; empty where the connection is ended instead."""
        reader, writer = connection
        try:
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), 15)
            if line:
                await reader.readuntil(b"here")
            return line
        except ConnectionError:
            return b""


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    """An app that answers at once, late, and without an end."""
    app = FastAPI()

    @app.get("/")
    async def here() -> Response:
        return PlainTextResponse("here")

    go_on, given_up = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> Response:
        await go_on.wait()
        return PlainTextResponse("here")

    @app.get("/endless")
    async def endless(_request: Request) -> Response:
        async def zeros() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(65_536)
                    await asyncio.sleep(0)
            finally:
                given_up.set()

        return StreamingResponse(zeros())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        bridge = Bridge(listener.getsockname()[1], go_on, given_up)
        server: uvicorn.Server = _Server(uvicorn_config(app, bridge=True))
        task = asyncio.create_task(server.serve([listener]))
        yield bridge
        for _, writer in bridge.connections:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        server.should_exit = True
        await task


async def _ended(connection: Connection) -> None:
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionError):
            assert await connection[0].read() == b""


async def test_one_address_has_so_many_connections_and_no_more(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "most_of_peer", 3)
    held = [await bridge.connect() for _ in range(3)]
    for connection in held:
        assert b"200" in await bridge.ask(connection)
    assert await bridge.ask(await bridge.connect()) == b""
    assert b"200" in await bridge.ask(await bridge.connect("127.0.0.2"))
    held[0][1].close()
    async with asyncio.timeout(15):
        while b"200" not in await bridge.ask(await bridge.connect()):
            await asyncio.sleep(0.01)


async def test_a_connection_without_a_request_is_ended(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "head_within", 0.2)
    await _ended(await bridge.connect())


async def test_headers_that_never_end_are_cut_off(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "head_within", 0.2)
    first, later = await bridge.connect(), await bridge.connect()
    assert b"200" in await bridge.ask(later)

    async def drip(connection: Connection) -> None:
        connection[1].write(ASKED[:-2])
        with contextlib.suppress(ConnectionError):
            while not connection[0].at_eof():
                connection[1].write(b"X: y\r\n")
                await connection[1].drain()
                await asyncio.sleep(0.02)

    dripping = [asyncio.create_task(drip(connection)) for connection in (first, later)]
    for connection in (first, later):
        await _ended(connection)
    await asyncio.gather(*dripping)


async def test_headers_without_end_do_not_fill_the_memory(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "head_within", 1000.0)
    reader, writer = await bridge.connect()
    writer.write(ASKED[:-2] + b"X: " + b"y" * 1_000_000)
    await _ended((reader, writer))


async def test_an_answer_may_take_its_time(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "head_within", 0.1)
    connection, idle = await bridge.connect(), await bridge.connect()
    asking = asyncio.create_task(bridge.ask(connection, ASKED.replace(b" / ", b" /slow ")))
    # Its own time is over when another's is, which began later.
    await _ended(idle)
    await _ended(await bridge.connect())
    bridge.go_on.set()
    assert b"200" in await asking


async def test_who_does_not_read_is_cut_off(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BridgeProtocol, "read_within", 0.2)
    _, writer = await bridge.connect()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(ASKED.replace(b" / ", b" /endless "))
    await asyncio.wait_for(bridge.given_up.wait(), 15)
