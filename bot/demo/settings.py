"""The demo's settings: the operator's own where they fit a try, everything else apart from a real service."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bot.hostfacts import HostFacts
from bot.listeners import ListenError, listen
from bot.settings import INSTANCES_PORT, Admission, Settings, default_state, load_settings

#: A simulator that is gone.
_NOWHERE = "http://127.0.0.1:9"


def demo_state() -> Path:
    """The demo's folder: `ZAKI_STATE` where it is set, else one beside a real service's."""
    return Path(os.environ.get("ZAKI_STATE") or default_state() / "demo").expanduser().resolve()


def clean_settings(state: Path) -> Settings:
    """Settings to remove a demo with: its folder matters, nothing else does."""
    return load_settings(state=state, telegram_token=None, telegram_api=_NOWHERE, public_url=None, database_url=None)


def demo_settings(state: Path, telegram_api: str, token: str, host: HostFacts, pool: int | None = None) -> Settings:
    """Settings for a service that talks to the simulator; never a real service's token, database or addresses.

    `pool`: how many instances are kept ready for people who are new; None: what the operator's settings say.
    """
    return load_settings(
        **({} if pool is None else {"pool": pool}),
        state=state,
        telegram_token=token,
        telegram_api=telegram_api,
        public_url=None,
        database_url=None,
        admission=Admission.OPEN,
        listen="127.0.0.1:0",
        instances_listen=f"{host.gateway}:{free_port(str(host.gateway), INSTANCES_PORT)}",
    )


def demo_database(state: Path) -> str:
    """URL of the demo's database."""
    return f"sqlite+aiosqlite:///{state / 'db' / 'zaki.sqlite3'}"


def new_token() -> str:
    """A bot token of Telegram's form, which no real bot has."""
    return f"{secrets.randbelow(9_000_000) + 1_000_000}:demo-{secrets.token_urlsafe(24)}"


def free_port(host: str, wanted: int) -> int:
    """The wanted TCP port, or any free one where it is taken."""
    try:
        probe = listen(host, wanted, "another port", free=True)
    except ListenError:
        probe = listen(host, 0, "another port", free=True)
    with probe:
        return int(probe.getsockname()[1])
