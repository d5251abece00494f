"""What an instance takes of this machine's memory now."""

from __future__ import annotations

import aiodocker

from bot.cli.output import Row
from bot.provisioner.containers import ContainerError, Containers
from bot.provisioner.sleep.memory import ContainerMemory, MemoryUnreachable

_MIB = 1 << 20


async def memory_use(instance_id: str) -> Row | None:
    """MiB in memory and in swap; None where it does not run, or that cannot be seen from here."""
    try:
        async with Containers.connect() as containers:
            process = await containers.process(instance_id)
        use = ContainerMemory.of(process).usage() if process is not None else None
    # aiodocker raises ValueError where it finds no socket at all.
    except (ContainerError, MemoryUnreachable, aiodocker.DockerError, OSError, ValueError):
        return None
    if use is None:
        return None
    return {"resident_mib": round(use.resident_bytes / _MIB), "swapped_mib": round(use.swapped_bytes / _MIB)}
