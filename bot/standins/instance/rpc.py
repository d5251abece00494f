"""`POST /api/v1/admin/rpc`: the methods that hosts use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse

from bot.credentials import same
from bot.standins.instance.config import ConfigConflict, ConfigError, InstanceConfig
from bot.standins.instance.cron import Cron
from bot.standins.instance.suspension import RpcError, Suspension


class AdminRpc:
    """Answers as the bundled plugin `admin-http-rpc` does."""

    def __init__(
        self,
        config: Callable[[], InstanceConfig],
        apply: Callable[[InstanceConfig], None],
        suspension: Suspension,
        cron: Cron,
        sessions: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self._config = config
        self._apply = apply
        self._suspension = suspension
        self._methods: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "gateway.suspend.prepare": suspension.prepare,
            "gateway.suspend.status": suspension.status,
            "gateway.suspend.resume": suspension.resume,
            "health": lambda _params: {"ok": True},
            "status": lambda _params: {"sessions": {"recent": sessions()}},
            "config.get": self._get,
            "config.patch": self._patch,
            "cron.add": cron.add,
            "cron.list": cron.list,
            "cron.remove": cron.remove,
            "cron.runs": cron.runs,
        }

    async def serve(self, request: Request) -> JSONResponse:
        """Answer a call."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not same(token, self._config().gateway_token):
            return JSONResponse({"error": {"message": "Unauthorized", "type": "unauthorized"}}, 401)
        identifier = str(uuid4())
        try:
            payload = self._call(await request.body())
        except RpcError as error:
            return JSONResponse({"id": identifier, "ok": False, "error": error.body}, error.status)
        return JSONResponse({"id": identifier, "ok": True, "payload": payload})

    def _call(self, raw: bytes) -> dict[str, Any]:
        try:
            body = json.loads(raw)
            method, params = body["method"], body.get("params") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RpcError("INVALID_REQUEST", "invalid admin HTTP RPC request") from None
        if method not in self._methods:
            raise RpcError("INVALID_REQUEST", f"admin HTTP RPC method is not supported: {method}")
        if self._suspension.prepared and not method.startswith("gateway.suspend."):
            details = {"method": method, "reason": "gateway-suspending", "phase": "prepared"}
            message = f"{method} unavailable during gateway suspension"
            raise RpcError("UNAVAILABLE", message, retryable=True, retryAfterMs=1000, details=details)
        return self._methods[method](params)

    def _get(self, _params: Mapping[str, Any]) -> dict[str, Any]:
        config = self._config()
        return {"exists": True, "valid": True, "hash": config.hash, "config": config.redacted()}

    def _patch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        try:
            patch = json.loads(params["raw"])
            config = self._config().patched(patch, params.get("baseHash"), params.get("replacePaths"))
        except (ValueError, KeyError, TypeError):
            raise RpcError("INVALID_REQUEST", "invalid config.patch params") from None
        except (ConfigConflict, ConfigError) as error:
            raise RpcError("INVALID_REQUEST", str(error)) from None
        self._apply(config)
        return {"ok": True, "hash": config.hash, "config": config.redacted()}
