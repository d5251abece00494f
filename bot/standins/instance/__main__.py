"""`python -m bot.standins.instance` serves the configuration that OPENCLAW_CONFIG_PATH names."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bot.standins.instance.config import EXIT_CONFIG, ConfigError, InstanceConfig
from bot.standins.instance.instance import StandInInstance


async def serve(path: Path) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = os.environ.get("STANDIN_ADDRESS")
    async with StandInInstance(InstanceConfig.read(path), address, path.parent).running():
        await stop.wait()


def main() -> int:
    """Exit 78 where the configuration cannot be used, as OpenClaw does."""
    path = Path(os.environ.get("OPENCLAW_CONFIG_PATH") or Path.home() / ".openclaw" / "openclaw.json")
    try:
        asyncio.run(serve(path))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
