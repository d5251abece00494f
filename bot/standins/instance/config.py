"""The parts of `openclaw.json` that the stand-in obeys."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: OpenClaw's exit code for a configuration that it cannot use.
EXIT_CONFIG = 78
_ROOT = frozenset({"gateway", "discovery", "agents", "models", "channels", "messages", "commands", "plugins", "tools"})
_SECRETS = frozenset({"token", "apiKey", "botToken", "webhookSecret"})


class ConfigError(Exception):
    """The configuration cannot be used; the message says why."""


class ConfigConflict(Exception):
    """A patch that does not fit what is there now; the message says why."""


@dataclass(frozen=True)
class InstanceConfig:
    """A configuration that was checked; `raw` is the whole of it."""

    raw: Mapping[str, Any]
    gateway_port: int
    gateway_token: str
    webhook_port: int
    webhook_path: str
    webhook_secret: str
    bot_token: str
    #: Base URL of the Bot API, without a trailing slash.
    api_root: str
    owners: frozenset[str]
    model_url: str
    model_key: str
    model: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> InstanceConfig:
        """Check a configuration; raises :class:`ConfigError`."""
        unknown = sorted(set(raw) - _ROOT)
        if unknown:
            raise ConfigError(f'invalid config: <root>: Unrecognized key: "{unknown[0]}"')
        try:
            gateway, telegram = raw["gateway"], raw["channels"]["telegram"]
            provider, _, model = raw["agents"]["defaults"]["model"]["primary"].partition("/")
            upstream = raw["models"]["providers"][provider]
            return cls(
                raw=deepcopy(dict(raw)),
                gateway_port=int(gateway["port"]),
                gateway_token=str(gateway["auth"]["token"]),
                webhook_port=int(telegram["webhookPort"]),
                webhook_path=str(telegram.get("webhookPath", "/telegram-webhook")),
                webhook_secret=str(telegram["webhookSecret"]),
                bot_token=str(telegram["botToken"]),
                api_root=str(telegram["apiRoot"]).rstrip("/"),
                owners=frozenset(str(owner) for owner in telegram["allowFrom"]),
                model_url=str(upstream["baseUrl"]).rstrip("/"),
                model_key=str(upstream["apiKey"]),
                model=str(model),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"invalid config: {type(error).__name__}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> InstanceConfig:
        """Read and check a file; raises :class:`ConfigError`."""
        try:
            raw = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        if not isinstance(raw, dict):
            raise ConfigError(f"{path} holds no JSON object")
        return cls.parse(raw)

    @property
    def hash(self) -> str:
        """What a patch must name as its base."""
        digest = hashlib.sha256(json.dumps(self.raw, sort_keys=True).encode()).digest()
        return "hmac-sha256:v1:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def redacted(self) -> dict[str, Any]:
        """The configuration without its secrets, as OpenClaw shows it."""
        redacted: dict[str, Any] = _redacted(self.raw)
        return redacted

    def patched(self, patch: object, base_hash: object, replace_paths: object) -> InstanceConfig:
        """A JSON merge patch applied; raises :class:`ConfigConflict` and :class:`ConfigError`."""
        if base_hash is None:
            raise ConfigConflict("config base hash required; re-run config.get and retry with baseHash")
        if base_hash != self.hash:
            raise ConfigConflict("config changed since last load; re-run config.get and retry")
        if not isinstance(patch, dict):
            raise ConfigError("invalid config: the patch must be an object")
        replaceable = frozenset(replace_paths) if isinstance(replace_paths, list) else frozenset()
        return InstanceConfig.parse(_merged(self.raw, patch, "", replaceable))


def _merged(old: Any, patch: Any, path: str, replaceable: frozenset[Any]) -> Any:
    if isinstance(patch, dict):
        merged = dict(old) if isinstance(old, Mapping) else {}
        for name, value in patch.items():
            if value is None:
                merged.pop(name, None)
            else:
                below = f"{path}.{name}" if path else name
                merged[name] = _merged(merged.get(name), value, below, replaceable)
        return merged
    shrinks = isinstance(old, list) and isinstance(patch, list) and any(entry not in patch for entry in old)
    if shrinks and path not in replaceable:
        raise ConfigConflict(f"config.patch would remove entries from array path(s): {path}. Pass replacePaths.")
    return patch


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: "__OPENCLAW_REDACTED__" if name in _SECRETS else _redacted(below) for name, below in value.items()
        }
    return [_redacted(entry) for entry in value] if isinstance(value, list) else value
