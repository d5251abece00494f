"""What systemd hears, read from a socket as it opens one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.servicemanager import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket of each kind that systemd may name, and its name in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = str(tmp_path / "notify") if request.param == "file" else f"@zaki-test-{os.getpid()}"
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.settimeout(10)
        yield listener, name


def test_systemd_hears_that_it_serves_and_that_it_ends(heard: tuple[socket.socket, str]) -> None:
    listener, name = heard
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    manager.ready("Zaki takes messages.")
    assert listener.recv(4096).decode().splitlines() == ["READY=1", "STATUS=Zaki takes messages."]
    manager.stopping()
    assert listener.recv(4096) == b"STOPPING=1"


async def test_the_watchdog_hears_of_a_loop_that_turns(heard: tuple[socket.socket, str]) -> None:
    listener, name = heard
    listener.setblocking(False)
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
    watching = asyncio.create_task(ServiceManager(environment).keep_watch())
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        assert [await loop.sock_recv(listener, 64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    watching.cancel()
    await asyncio.wait([watching])


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getppid())}]
)
async def test_without_a_watchdog_nothing_is_kept_up(environment: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        await ServiceManager(environment).keep_watch()


def test_a_service_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("")
    ServiceManager({}).stopping()
