"""How an instance that is held still leaves memory and comes back: one interface, a kind for each runtime."""

from __future__ import annotations

from typing import Protocol

import structlog

from bot.provisioner.containers import Containers
from bot.provisioner.sleep.memory import ContainerMemory, MemoryUnreachable, MemoryUse

_log = structlog.get_logger(__name__)


class Freezer(Protocol):
    """A way to sleep. All of it may be repeated, and may be cut off anywhere."""

    async def freeze(self, instance_id: str) -> None:
        """Nothing of the instance runs any more."""

    async def give_back(self, instance_id: str) -> None:
        """Free the memory of a frozen instance."""

    async def thaw(self, instance_id: str, pids: int) -> None:
        """Let it go on where it was."""

    async def use(self, instance_id: str) -> MemoryUse | None:
        """What it takes of the machine's memory and swap now; None where that cannot be known."""


class PausingFreezer:
    """Under runc: the container is paused, and its memory goes to swap."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def freeze(self, instance_id: str) -> None:
        """Pause the container."""
        await self._containers.pause(instance_id)

    async def give_back(self, instance_id: str) -> None:
        """Have the kernel move it to swap; where that does not work, it sleeps in memory."""
        try:
            memory = await self._memory(instance_id)
            if memory is not None:
                done = await memory.reclaim()
                _log.info(
                    "memory given back",
                    instance=instance_id,
                    before_mb=done.before_bytes // 10**6,
                    after_mb=done.after_bytes // 10**6,
                    seconds=round(done.seconds, 2),
                )
        except MemoryUnreachable as error:
            _log.warning("memory was not given back", instance=instance_id, reason=str(error))

    async def thaw(self, instance_id: str, pids: int) -> None:
        """Unpause the container."""
        await self._containers.start(instance_id, pids)

    async def use(self, instance_id: str) -> MemoryUse | None:
        """What its cgroup says."""
        try:
            memory = await self._memory(instance_id)
            return memory.usage() if memory is not None else None
        except MemoryUnreachable as error:
            _log.warning("memory use is not known", instance=instance_id, reason=str(error))
            return None

    async def _memory(self, instance_id: str) -> ContainerMemory | None:
        process = await self._containers.process(instance_id)
        return ContainerMemory.of(process) if process is not None else None
