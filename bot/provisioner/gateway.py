"""Speaks to a gateway from the host: health, and the admin RPC that comes with OpenClaw."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx

from bot.endpoints import GATEWAY_PORT, WEBHOOK_PORT

#: Seconds for the whole of an answer, and its most bytes: an instance could answer slowly, or for ever.
_PROBE_TIMEOUT = 2.0
_PROBE_LIMIT = 64 * 1024
_RPC_TIMEOUT = 30.0
_RPC_LIMIT = 1024 * 1024


class GatewayError(Exception):
    """The gateway did not do what it was asked to; the message says what and why."""


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

    async def patch_config(self, config: dict[str, Any]) -> None:
        """Merge into the running configuration; raises :class:`GatewayError` where the gateway refuses it."""
        current = await self.call("config.get", {})
        if not isinstance(current, dict) or not isinstance(current.get("hash"), str):
            raise GatewayError("config.get: the gateway's answer has no hash.")
        await self.call("config.patch", {"raw": json.dumps(config), "baseHash": current["hash"]})

    def _url(self, path: str) -> str:
        return f"http://{self.address}:{GATEWAY_PORT}{path}"
