"""OpenClaw's configuration and first workspace files, rendered by pure functions.

The shape is that of OpenClaw 2026.9.6, which refuses unknown keys (exit code 78).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from bot.credentials import FrontCredentials
from bot.endpoints import GATEWAY_PORT, WEBHOOK_PATH, WEBHOOK_PORT

HOME = "/home/node"
STATE = ".openclaw"

#: Where OpenClaw reads what it must know of the person, below :data:`HOME`.
USER_FILE = f"{STATE}/workspace/USER.md"
CONFIG_FILE = f"{STATE}/openclaw.json"

#: The arrays of the configuration that name the person; another one's takes the place of whoever stood there.
OWNER_LISTS = ("channels.telegram.allowFrom", "commands.ownerAllowFrom")

#: Characters; OpenClaw cuts USER.md at 4,000, and names on Telegram are far shorter.
_NAME_LIMIT = 128
_BLOCK_BEGIN = "<!-- set in the chat's settings: begin -->"
_BLOCK_END = "<!-- set in the chat's settings: end -->"


@dataclass(frozen=True)
class Owner:
    """The person, as far as their assistant must know them."""

    telegram_id: int
    #: None: not told.
    call_name: str | None
    #: IANA name, for example `Europe/Berlin`; None: not told.
    timezone: str | None


@dataclass(frozen=True)
class GatewayConfig:
    """All that the configuration depends on."""

    owner: Owner
    credentials: FrontCredentials
    gateway_token: str
    #: Base URL of the front's bridge side as the instance reaches it, without a trailing slash.
    front_url: str


def render_config(config: GatewayConfig) -> dict[str, Any]:
    """`openclaw.json` as a JSON object."""
    owner = str(config.owner.telegram_id)
    defaults: dict[str, Any] = {
        "workspace": f"{HOME}/{STATE}/workspace",
        "model": {"primary": "zaki/default"},
        # Heartbeats call the model every 30 minutes unless they are off.
        "heartbeat": {"every": "0m"},
    }
    if config.owner.timezone is not None:
        defaults["userTimezone"] = config.owner.timezone
    return {
        "gateway": {
            "mode": "local",
            "bind": "lan",
            "port": GATEWAY_PORT,
            # In the file, not in the environment: the environment wins and cannot be rotated.
            "auth": {"mode": "token", "token": config.gateway_token},
            "controlUi": {"enabled": False},
            "terminal": {"enabled": False},
        },
        "discovery": {"mdns": {"mode": "off"}},
        "agents": {"defaults": defaults},
        "models": {
            "mode": "replace",
            "providers": {
                "zaki": {
                    "baseUrl": f"{config.front_url}/llm/v1",
                    "apiKey": config.credentials.model_key,
                    "api": "openai-completions",
                    "models": [{"id": "default", "name": "default", "contextWindow": 128_000, "maxTokens": 4096}],
                }
            },
        },
        "channels": {
            "telegram": {
                "enabled": True,
                "botToken": config.credentials.bot_token,
                "dmPolicy": "allowlist",
                "allowFrom": [owner],
                "apiRoot": f"{config.front_url}/telegram",
                "network": {"dangerouslyAllowPrivateNetwork": True},
                # Never called: the front delivers to the address; `.invalid` can belong to nobody.
                "webhookUrl": f"https://zaki.invalid{WEBHOOK_PATH}",
                "webhookSecret": config.credentials.webhook_secret,
                "webhookHost": "0.0.0.0",  # noqa: S104
                "webhookPort": WEBHOOK_PORT,
                "streaming": {"mode": "partial"},
            }
        },
        # Each message is a turn of its own; by default quick ones are merged into one reply.
        "messages": {"inbound": {"debounceMs": 0}, "queue": {"mode": "followup"}},
        "commands": {"ownerAllowFrom": [f"telegram:{owner}"], "restart": False},
        "plugins": {
            "entries": {
                "admin-http-rpc": {"enabled": True},
                # Its nightly job costs money and would wake every sleeper.
                "memory-core": {"config": {"dreaming": {"enabled": False}}},
            }
        },
    }


def render_user_file(owner: Owner, existing: str | None) -> str:
    """`USER.md`, which OpenClaw puts into every session.

    Only the block between our marks is ours: what the assistant learned and wrote around it stays.
    """
    lines = [_BLOCK_BEGIN]
    if owner.call_name is not None:
        lines.append(f"- Address the user by the name {json.dumps(_one_line(owner.call_name), ensure_ascii=False)}.")
    if owner.timezone is not None:
        lines.append(f"- Use the time zone {owner.timezone} for dates and times.")
    if owner.call_name is None and owner.timezone is None:
        lines.append("- Ask the user what to call them when it comes up naturally.")
    block = "\n".join([*lines, _BLOCK_END])
    if existing is None:
        return f"# USER.md - User Model\n\n## Directives\n\n{block}\n"
    begin, end = existing.find(_BLOCK_BEGIN), existing.find(_BLOCK_END)
    if 0 <= begin < end:
        return existing[:begin] + block + existing[end + len(_BLOCK_END) :]
    return f"{existing.rstrip()}\n\n{block}\n"


def config_hash(config: GatewayConfig) -> str:
    """Changes when anything that was rendered changes."""
    rendered = json.dumps(render_config(config), sort_keys=True) + "\0" + render_user_file(config.owner, None)
    return hashlib.sha256(rendered.encode()).hexdigest()


def _one_line(name: str) -> str:
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in name)).strip()[:_NAME_LIMIT]
