"""What an instance's Node.js makes of connections to the front that break, with what is loaded into it first."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.toolchain import Toolchain
from infra.spec import ENVIRONMENT

ASK = """
fetch(process.argv[1], { method: "POST", body: "hello" }).then(
  (answer) => console.log(answer.status),
  (error) => console.log(error.cause.code),
);
"""


@asynccontextmanager
async def resetting() -> AsyncIterator[str]:
    """A server that resets every connection as soon as it is asked something; its URL."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask(toolchain: Toolchain, url: str, config: Path) -> str:
    """The code of the error that a request ends with."""
    loaded = next(line for line in ENVIRONMENT if line.startswith("NODE_OPTIONS="))
    process = await asyncio.create_subprocess_exec(
        *(str(toolchain.node_bin / "node"), "-e", ASK, url),
        env={"NODE_OPTIONS": loaded.removeprefix("NODE_OPTIONS="), "OPENCLAW_CONFIG_PATH": str(config)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode().strip()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "openclaw.json"


async def test_a_reset_by_the_front_counts_as_a_close_which_is_sent_again(toolchain: Toolchain, config: Path) -> None:
    async with resetting() as url:
        config.write_text(json.dumps({"channels": {"telegram": {"apiRoot": f"{url}/telegram"}}}))
        assert await ask(toolchain, url, config) == "UND_ERR_SOCKET"


async def test_a_reset_by_anybody_else_stays_one(toolchain: Toolchain, config: Path) -> None:
    async with resetting() as url:
        config.write_text(json.dumps({"channels": {"telegram": {"apiRoot": "http://10.87.0.1:8081/telegram"}}}))
        assert await ask(toolchain, url, config) == "ECONNRESET"


async def test_without_a_configuration_nothing_changes(toolchain: Toolchain, config: Path) -> None:
    async with resetting() as url:
        assert await ask(toolchain, url, config) == "ECONNRESET"
