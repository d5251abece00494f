"""Calls of an instance's Node.js to a front that is killed, with what is loaded into it first."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.toolchain import Toolchain
from infra.spec import ENVIRONMENT

#: Makes one call and prints its answer, or the code of its error.
ASK = """
const [method, url] = process.argv.slice(1);
fetch(url, { method, ...(method === "POST" ? { body: "hello" } : {}) }).then(
  async (answer) => console.log(answer.status, await answer.text()),
  (error) => console.log(error.cause?.code ?? error.message),
);
"""
CALL = "/telegram/bot1:x/sendMessage"


@dataclass
class Front:
    """Takes requests and does to their connections what it is told to; `ok` is an answer."""

    deeds: list[str]
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.decode().split()[1])
        deed = self.deeds.pop(0) if self.deeds else "ok"
        if deed == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif deed == "half":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nno")
        elif deed != "close":
            status = "503 Service Unavailable" if deed == "503" else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\nyes!".encode())
        writer.close()


@asynccontextmanager
async def front(*deeds: str) -> AsyncIterator[Front]:
    made = Front(list(deeds))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


async def ask(toolchain: Toolchain, config: Path, method: str, url: str) -> str:
    """What the call came to."""
    loaded = next(line for line in ENVIRONMENT if line.startswith("NODE_OPTIONS="))
    process = await asyncio.create_subprocess_exec(
        *(str(toolchain.node_bin / "node"), "-e", ASK, method, url),
        env={"NODE_OPTIONS": loaded.removeprefix("NODE_OPTIONS="), "OPENCLAW_CONFIG_PATH": str(config)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode().strip()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "openclaw.json"


def write(config: Path, api: str) -> None:
    config.write_text(json.dumps({"channels": {"telegram": {"apiRoot": f"{api}/telegram"}}}))


@pytest.mark.parametrize("deeds", [["reset"] * 4, ["close"] * 4, ["503", "503"], ["half", "reset", "half"]])
async def test_a_call_is_made_again_until_it_is_answered(toolchain: Toolchain, config: Path, deeds: list[str]) -> None:
    async with front(*deeds) as there:
        write(config, there.url)
        assert await ask(toolchain, config, "POST", there.url + CALL) == "200 yes!"
    assert there.asked == [CALL] * (len(deeds) + 1)


async def test_a_call_waits_for_a_front_that_is_away(toolchain: Toolchain, config: Path) -> None:
    async with front() as there:
        write(config, there.url)
    port = int(there.url.rpartition(":")[2])
    asking = asyncio.create_task(ask(toolchain, config, "POST", there.url + CALL))
    await asyncio.sleep(1.0)
    async with await asyncio.start_server(there.serve, "127.0.0.1", port):
        assert await asking == "200 yes!"


@pytest.mark.parametrize(("method", "path"), [("POST", "/llm/v1/chat/completions"), ("GET", "/telegram/file/bot1:x/a")])
async def test_whatever_else_goes_to_the_front_goes_once(
    toolchain: Toolchain, config: Path, method: str, path: str
) -> None:
    async with front("ok", "close") as there:
        write(config, there.url)
        assert await ask(toolchain, config, method, there.url + path) == "200 yes!"
        assert await ask(toolchain, config, method, there.url + path) == "UND_ERR_SOCKET"
    assert there.asked == [path] * 2


async def test_calls_of_others_are_left_alone(toolchain: Toolchain, config: Path) -> None:
    async with front("reset") as there:
        write(config, "http://10.87.0.1:8081")
        assert await ask(toolchain, config, "POST", there.url + CALL) == "ECONNRESET"
    assert there.asked == [CALL]


async def test_without_a_configuration_calls_go_as_they_are(toolchain: Toolchain, config: Path) -> None:
    async with front("ok", "reset") as there:
        assert await ask(toolchain, config, "POST", there.url + CALL) == "200 yes!"
        assert await ask(toolchain, config, "POST", there.url + CALL) == "ECONNRESET"
