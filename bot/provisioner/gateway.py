"""Speaks to a gateway from the host: health, and the admin RPC that comes with OpenClaw."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bot.endpoints import GATEWAY_PORT, WEBHOOK_PATH, WEBHOOK_PORT

#: Seconds for the whole of an answer, and its most bytes: an instance could answer slowly, or for ever.
_PROBE_TIMEOUT = 2.0
_PROBE_LIMIT = 64 * 1024
_RPC_TIMEOUT = 30.0
_RPC_LIMIT = 1024 * 1024


#: Seconds that a busy process may take to say that it is alive.
_ALIVE_TIMEOUT = 5.0
#: Characters of a gateway's own words in a sentence of ours.
_WORDS = 200


class GatewayError(Exception):
    """The gateway did not do what it was asked to; the message says what and why."""


@dataclass(frozen=True)
class Suspension:
    """The answer to the question whether a gateway may be frozen."""

    #: The number under which it is resumed; None: it is busy.
    id: str | None
    #: What it is busy with, in its own words.
    busy_with: str = ""


@dataclass(frozen=True)
class Gateway:
    """One instance's gateway at its address on the bridge."""

    http: httpx.AsyncClient
    address: str
    token: str

    async def ready(self) -> bool:
        """Whether it would take a message: `/readyz` says so, and the webhook, which opens later, listens."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                status, body = await self._ask("GET", self._url("/readyz"), _PROBE_LIMIT)
                if status != 200 or json.loads(body).get("ready") is not True:
                    return False
                status, _ = await self._ask("GET", f"http://{self.address}:{WEBHOOK_PORT}/healthz", _PROBE_LIMIT)
                return status == 200
        except (httpx.HTTPError, TimeoutError, ValueError, AttributeError, RecursionError):
            return False

    async def alive(self) -> bool:
        """Whether its process answers at all; it does while it is suspended, and does not while it is frozen."""
        try:
            async with asyncio.timeout(_ALIVE_TIMEOUT):
                status, _ = await self._ask("GET", self._url("/healthz"), _PROBE_LIMIT)
                return status == 200
        except (httpx.HTTPError, TimeoutError, ValueError):
            return False

    async def suspend(self, request_id: str) -> Suspension:
        """Ask it to hold still: nothing runs any more, until :meth:`resume` or for two minutes.

        The same `request_id` again gives the same suspension. Raises :class:`GatewayError`.
        """
        answer = await self.call("gateway.suspend.prepare", {"requestId": request_id})
        if isinstance(answer, dict):
            if answer.get("status") == "ready" and isinstance(answer.get("suspensionId"), str):
                return Suspension(str(answer["suspensionId"])[:128])
            if answer.get("status") == "busy":
                return Suspension(None, _blockers(answer.get("blockers")) or str(answer.get("reason"))[:_WORDS])
        raise GatewayError("gateway.suspend.prepare: the gateway's answer has no status.")

    async def resume(self, suspension_id: str) -> None:
        """End a suspension; one that has ended by itself is fine. Raises :class:`GatewayError`."""
        await self.call("gateway.suspend.resume", {"suspensionId": suspension_id})

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """The payload that an admin RPC method answers; raises :class:`GatewayError`."""
        try:
            async with asyncio.timeout(_RPC_TIMEOUT):
                status, answer = await self._ask(
                    "POST",
                    self._url("/api/v1/admin/rpc"),
                    _RPC_LIMIT,
                    json={"method": method, "params": params},
                    headers={"Authorization": f"Bearer {self.token}"},
                )
            body = json.loads(answer)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            raise GatewayError(f"{method}: no answer from the gateway ({type(error).__name__}).") from None
        if not isinstance(body, dict) or body.get("ok") is not True:
            reason = body.get("error") if isinstance(body, dict) else None
            message = reason.get("message") if isinstance(reason, dict) else reason
            raise GatewayError(f"{method}: the gateway answered {status}: {str(message)[:300]}.")
        return body.get("payload")

    async def _ask(self, method: str, url: str, limit: int, **given: Any) -> tuple[int, bytes]:
        """Status and body; ValueError for a body over `limit` bytes. What answers may be hostile."""
        headers = {"Accept-Encoding": "identity", **given.pop("headers", {})}
        async with self.http.stream(method, url, headers=headers, timeout=None, **given) as answer:
            body = b""
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise ValueError("The answer is too long.")
            return answer.status_code, body

    async def patch_config(self, config: dict[str, Any], lists: Sequence[str] = ()) -> None:
        """Merge into the running configuration; raises :class:`GatewayError` where the gateway refuses it.

        The gateway itself finds what differs and applies no more than that. `lists` are the paths of arrays that may
        lose entries, which it refuses otherwise.
        """
        current = await self.call("config.get", {})
        if not isinstance(current, dict) or not isinstance(current.get("hash"), str):
            raise GatewayError("config.get: the gateway's answer has no hash.")
        patch = {"raw": json.dumps(config), "baseHash": current["hash"], "replacePaths": list(lists)}
        await self.call("config.patch", patch)

    async def hand_over(self, update: bytes, webhook_secret: str) -> None:
        """Post an update to its Telegram webhook; raises :class:`GatewayError` where it does not take it."""
        url = f"http://{self.address}:{WEBHOOK_PORT}{WEBHOOK_PATH}"
        headers = {"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": webhook_secret}
        try:
            async with asyncio.timeout(_RPC_TIMEOUT):
                status, _ = await self._ask("POST", url, _PROBE_LIMIT, content=update, headers=headers)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise GatewayError(f"The webhook gave no answer ({type(error).__name__}).") from None
        if status != 200:
            raise GatewayError(f"The webhook answered {status}.")

    def _url(self, path: str) -> str:
        return f"http://{self.address}:{GATEWAY_PORT}{path}"


def _blockers(found: object) -> str:
    """What keeps a gateway busy, in its own words, shortened."""
    if not isinstance(found, list):
        return ""
    words = [str(blocker.get("message") or blocker.get("kind")) for blocker in found[:5] if isinstance(blocker, dict)]
    return " ".join(", ".join(words).split())[:_WORDS]
