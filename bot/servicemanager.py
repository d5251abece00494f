"""systemd, where it started this process: it is told when the service serves, and that it is still alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """Sends what `sd_notify(3)` sends, over the socket that systemd named; outside of it every word is lost."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        #: Seconds of silence after which systemd starts the service anew; None: it does not watch.
        self.patience = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 or None if ours else None

    def ready(self, status: str) -> None:
        """It serves; `status` is shown by `systemctl status`."""
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """It ends, which may take a moment."""
        self._tell("STOPPING=1")

    async def keep_watch(self) -> None:
        """Say that the event loop turns, until cancelled; returns at once where nobody watches."""
        while self.patience is not None:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.patience / 3)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # The kernel writes abstract addresses with a zero byte, the environment with an @.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
            speaker.sendto("\n".join(lines).encode(), address)
