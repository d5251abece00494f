"""What the front's parts share."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from bot.credentials import FrontKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.store import Database


@dataclass(frozen=True)
class FrontContext:
    """Handed to each part at start; closed by the app's lifespan."""

    settings: Settings
    database: Database
    nudge: Nudge
    host: HostFacts
    key: FrontKey
    #: For Telegram, instances and the model; no environment proxies (`trust_env=False`).
    http: httpx.AsyncClient
