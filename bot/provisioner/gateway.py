"""Speaks to a gateway from the host: health, and the admin RPC that comes with OpenClaw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from bot.provisioner.openclaw import GATEWAY_PORT, WEBHOOK_PORT

_PROBE_TIMEOUT = 2.0
_RPC_TIMEOUT = 30.0


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
            gateway = await self.http.get(self._url("/readyz"), timeout=_PROBE_TIMEOUT)
            if gateway.status_code != 200 or gateway.json().get("ready") is not True:
                return False
            webhook = await self.http.get(f"http://{self.address}:{WEBHOOK_PORT}/healthz", timeout=_PROBE_TIMEOUT)
            return webhook.status_code == 200
        except (httpx.HTTPError, ValueError, AttributeError):
            return False

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """The payload that an admin RPC method answers; raises :class:`GatewayError`."""
        try:
            answer = await self.http.post(
                self._url("/api/v1/admin/rpc"),
                json={"method": method, "params": params},
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=_RPC_TIMEOUT,
            )
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayError(f"{method}: no answer from the gateway ({type(error).__name__}).") from None
        if not isinstance(body, dict) or body.get("ok") is not True:
            reason = body.get("error") if isinstance(body, dict) else None
            message = reason.get("message") if isinstance(reason, dict) else reason
            raise GatewayError(f"{method}: the gateway answered {answer.status_code}: {message}.")
        return body.get("payload")

    async def patch_config(self, config: dict[str, Any]) -> None:
        """Merge into the running configuration; raises :class:`GatewayError` where the gateway refuses it."""
        current = await self.call("config.get", {})
        await self.call("config.patch", {"raw": json.dumps(config), "baseHash": current["hash"]})

    def _url(self, path: str) -> str:
        return f"http://{self.address}:{GATEWAY_PORT}{path}"
