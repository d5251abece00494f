"""What may be killed now: only processes that this campaign's service started, found by its own folder and network."""

from __future__ import annotations

import asyncio
import os
import signal
from enum import StrEnum


class Victim(StrEnum):
    """Who is killed."""

    FRONT = "front"
    PROVISIONER = "provisioner"
    ENGINE = "engine"
    INSTANCE = "instance"


async def instances(network: str) -> list[str]:
    """Names of the containers of this host's instances that run or are paused."""
    listed = await _docker("ps", "--filter", f"network={network}", "--format", "{{.Names}}")
    return sorted(listed.split())


async def printed(name: str) -> str:
    """The last lines that a container printed."""
    return await _docker("logs", "--timestamps", "--tail", "200", name)


async def kill_instance(name: str) -> bool:
    """`kill -9` of all in a container; False where there is nothing to kill (any more)."""
    pid = (await _docker("inspect", "--format", "{{.State.Pid}}", name)).strip()
    if not pid.isdigit() or pid == "0":
        return False
    try:
        # The first process of the container takes all others with it.
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        await _docker("kill", name)
    return True


def kill_process(pid: int) -> bool:
    """`kill -9`; False where it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def _docker(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode(errors="replace") if process.returncode == 0 else ""
