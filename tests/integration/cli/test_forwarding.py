"""`zaki instance open`: a loopback port that is free is forwarded to a gateway, whatever is said on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from bot.cli.forwarding import forwarding
from bot.cli.output import CliError
from bot.endpoints import GATEWAY_PORT

ADDRESS = "127.86.0.9"


@pytest.fixture
async def gateway() -> AsyncIterator[None]:
    """Says back what it hears, until the other side ends."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(65536):
            writer.write(heard)
            await writer.drain()
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(talk, ADDRESS, GATEWAY_PORT)
    yield
    server.close()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on, with a free one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            first.listen()
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            second.close()
            yield port
            return


@pytest.mark.usefixtures("gateway")
async def test_everything_is_passed_on_in_both_directions(taken: int) -> None:
    sent = bytes(range(256)) * 4096
    async with forwarding(ADDRESS, ports=range(taken, taken + 2)) as port:
        assert port == taken + 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        heard = asyncio.create_task(reader.read(-1))
        writer.write(sent)
        await writer.drain()
        # Only this direction is over: what is still to come arrives.
        writer.write_eof()
        assert await heard == sent + b"bye"
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.usefixtures("gateway")
async def test_what_is_open_ends_with_it() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    async with forwarding(ADDRESS, port) as given:
        assert given == port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    assert await reader.read(-1) == b""
    writer.close()


async def test_a_gateway_that_does_not_answer_ends_the_connection(taken: int) -> None:
    async with forwarding("127.86.0.8", taken + 1) as port, httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx.TransportError):
            await http.get(f"http://127.0.0.1:{port}/readyz")


async def test_a_taken_port_is_told(taken: int) -> None:
    with pytest.raises(CliError, match="--port"):
        async with forwarding(ADDRESS, taken):
            pass
    with pytest.raises(CliError, match="none is free"):
        async with forwarding(ADDRESS, ports=range(taken, taken + 1)):
            pass
