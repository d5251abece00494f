"""OpenClaw's cooperative suspension: a lease during which updates are taken and nothing runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

_LEASE = 120.0


class RpcError(Exception):
    """What an RPC method answers instead of a payload."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, **more}
        self.status = 503 if code == "UNAVAILABLE" else 400


class Suspension:
    """At most one lease; it ends by `resume`, or by itself after two minutes."""

    def __init__(self, active_turns: Callable[[], int], resumed: Callable[[], None]) -> None:
        self._active_turns = active_turns
        self._resumed = resumed
        self._request: str | None = None
        self._id = ""
        self._until = 0.0

    @property
    def prepared(self) -> bool:
        """Whether nothing may run now."""
        return self._request is not None and time.time() < self._until

    def prepare(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`gateway.suspend.prepare`: ready, or busy while a turn runs."""
        request = _identifier(params, "requestId", "prepare")
        if self.prepared and request != self._request:
            raise self._conflict("another gateway suspension is already prepared")
        if not self.prepared:
            active = self._active_turns()
            if active:
                blockers = [{"kind": "root-request", "count": active, "message": f"{active} active request"}]
                busy = {"status": "busy", "reason": "active-work", "retryAfterMs": 1000}
                return {**busy, "activeCount": active, "blockers": blockers}
            self._request, self._id = request, str(uuid4())
        self._until = time.time() + _LEASE
        ready = {"status": "ready", "suspensionId": self._id, "expiresAtMs": int(self._until * 1000)}
        return {**ready, "activeCount": 0, "blockers": [], "writeCustody": []}

    def status(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`gateway.suspend.status`, which also renews the lease."""
        identifier = _identifier(params, "suspensionId", "status")
        if not self.prepared:
            return {"status": "running"}
        if identifier != self._id:
            raise self._conflict("a different gateway suspension is prepared")
        self._until = time.time() + _LEASE
        return {"status": "ready", "expiresAtMs": int(self._until * 1000), "writeCustody": []}

    def resume(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """`gateway.suspend.resume`."""
        identifier = _identifier(params, "suspensionId", "resume")
        was_prepared = self.prepared
        if was_prepared and identifier != self._id:
            raise RpcError("INVALID_REQUEST", "gateway suspension id does not match")
        self._request = None
        if was_prepared:
            self._resumed()
        return {"ok": True, "status": "running", "resumed": was_prepared}

    def _conflict(self, message: str) -> RpcError:
        details = {"reason": "gateway-suspension-conflict", "expiresAtMs": int(self._until * 1000)}
        remaining = int((self._until - time.time()) * 1000)
        return RpcError("UNAVAILABLE", message, retryable=True, retryAfterMs=remaining, details=details)


def _identifier(params: Mapping[str, Any], name: str, method: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 128:
        raise RpcError("INVALID_REQUEST", f"invalid gateway.suspend.{method} params")
    return value.strip()
