"""Where an instance's gateway listens at its address: rendered into its configuration, and called by both services."""

from __future__ import annotations

GATEWAY_PORT = 18789
WEBHOOK_PORT = 8787
WEBHOOK_PATH = "/telegram-webhook"
