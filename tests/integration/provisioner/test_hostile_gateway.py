"""What answers at an instance's address may be anything: it can neither hold the provisioner up nor fill its memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from bot.endpoints import GATEWAY_PORT
from bot.provisioner import gateway as module
from bot.provisioner.gateway import Gateway, GatewayError

ADDRESS = "127.0.7.1"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[None]:
    """A server at the gateway's port that answers each request so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, ADDRESS, GATEWAY_PORT):
        yield


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood(writer: asyncio.StreamWriter) -> None:
    sent = 0
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while sent < 64 * 1024 * 1024:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()
        sent += 0x10000
    pytest.fail("all of it was read")


@pytest.mark.parametrize("answer", [drip, flood])
async def test_a_probe_ends(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBE_TIMEOUT", 0.5)
    async with answering(answer), httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
        assert not await Gateway(http, ADDRESS, "token").ready()


@pytest.mark.parametrize("answer", [drip, flood])
async def test_a_call_ends(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RPC_TIMEOUT", 0.5)
    async with answering(answer), httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
        with pytest.raises(GatewayError, match="no answer"):
            await Gateway(http, ADDRESS, "token").call("config.get", {})
