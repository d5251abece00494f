"""The nearest peer: `openclaw fleet`, upstream's own supervisor with one container for each tenant."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bot.toolchain import Toolchain

#: The gateway's user in the image.
_UID = 1000
#: Seconds for one command of the fleet; `create` itself gives up after about one minute.
_COMMAND_WITHIN = 180.0
_TURN_WITHIN = 180.0
_TRY_EVERY = 0.05


class PeerFailed(Exception):
    """The peer did not do what it was measured at; the message says what it printed."""


@dataclass(frozen=True)
class Cell:
    """A tenant of the fleet, up and healthy."""

    name: str
    port: int
    token: str


class Fleet:
    """A fleet below `home`, whose cells run `image` and ask the model at `model_url` (ending in `/v1`)."""

    def __init__(self, toolchain: Toolchain, home: Path, image: str, model_url: str) -> None:
        self._toolchain = toolchain
        self._home = home
        self._image = image
        self._model_url = model_url

    def prepare(self, name: str) -> None:
        """Put the configuration where `create` finds it and keeps it, so that no reload counts against the peer."""
        folder = self._home / "state" / "fleet" / "cells" / name
        folder.mkdir(mode=0o700, parents=True)
        file = folder / "openclaw.json"
        file.write_text(json.dumps(_config(self._model_url)))
        file.chmod(0o600)
        for path in (folder, file):
            os.chown(path, _UID, _UID)

    async def create(self, name: str) -> Cell:
        """`openclaw fleet create`: returns once the fleet calls the cell healthy."""
        made = json.loads(await self._run("create", name, "--image", self._image, "--json"))
        return Cell(name, int(made["port"]), str(made["token"]))

    async def first_turn(self, cell: Cell, text: str) -> str:
        """The beginning of the reply to the cell's first message, over its own chat API."""
        url = f"http://127.0.0.1:{cell.port}/v1/chat/completions"
        body = {"model": "openclaw", "stream": True, "messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {cell.token}"}
        deadline = time.monotonic() + _TURN_WITHIN
        async with httpx.AsyncClient(trust_env=False, timeout=_TURN_WITHIN) as http:
            while True:
                async with http.stream("POST", url, json=body, headers=headers) as answer:
                    if answer.status_code == 200:
                        return await _first_words(answer)
                    refusal = f"{answer.status_code} {(await answer.aread()).decode(errors='replace')[:300]}"
                if answer.status_code != 503 or time.monotonic() > deadline:
                    raise PeerFailed(f"The peer's chat API answered {refusal}.")
                await asyncio.sleep(_TRY_EVERY)

    async def remove(self, name: str) -> None:
        """Remove the cell with its data."""
        await self._run("rm", name, "--purge-data", "--force")

    async def _run(self, *words: str) -> str:
        node = self._toolchain.node_bin
        process = await asyncio.create_subprocess_exec(
            node / "node",
            self._toolchain.openclaw_app / "openclaw.mjs",
            "fleet",
            *words,
            env={
                "PATH": f"{node}:{os.environ.get('PATH', os.defpath)}",
                "HOME": str(self._home),
                "OPENCLAW_STATE_DIR": str(self._home / "state"),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), _COMMAND_WITHIN)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise PeerFailed(f"`openclaw fleet {words[0]}` took more than {_COMMAND_WITHIN:.0f} seconds.") from None
        if process.returncode != 0:
            said = (errors or output).decode(errors="replace").strip()[-500:]
            raise PeerFailed(f"`openclaw fleet {words[0]}` ended with {process.returncode}: {said}")
        return output.decode()


async def _first_words(answer: httpx.Response) -> str:
    async for line in answer.aiter_lines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if content := chunk["choices"][0]["delta"].get("content"):
            return str(content)
    raise PeerFailed("The peer's reply was empty.")


def _config(model_url: str) -> dict[str, Any]:
    """The model and the chat API; everything else as the fleet and the gateway have it by default."""
    model = {"id": "default", "name": "default", "contextWindow": 128000, "maxTokens": 4096}
    provider = {"baseUrl": model_url, "apiKey": "bench", "api": "openai-completions", "models": [model]}
    return {
        "gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}},
        "agents": {"defaults": {"model": {"primary": "zaki/default"}, "heartbeat": {"every": "0m"}}},
        "models": {"mode": "replace", "providers": {"zaki": provider}},
    }
