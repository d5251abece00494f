"""Whether the gateways that are up still answer: a process that hangs ends no container, so Docker does not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import select

from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import PROBES_MISSED
from bot.store.tables import ContainerState, Instance

#: Seconds between two rounds; a gateway whose machine is busy may take a while, so one miss says nothing.
PROBE_EVERY = 20.0
_AT_ONCE = 8


class Health:
    """Probes each gateway that is up, and has those looked at that stay silent."""

    def __init__(self, context: ProvisionerContext, look_at: Callable[[str], object]) -> None:
        """`look_at` begins to work on an instance, beside everything else."""
        self._context = context
        self._look_at = look_at
        self._missed: dict[str, int] = {}

    def missed(self, instance_id: str) -> int:
        """How many probes in a row it left unanswered."""
        return self._missed.get(instance_id, 0)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.probe_all()
            await asyncio.sleep(PROBE_EVERY)

    async def probe_all(self) -> None:
        """One round."""
        up = select(Instance).where(
            Instance.container == ContainerState.RUNNING,
            Instance.ready_at.is_not(None),
            Instance.fenced_at.is_(None),
            Instance.lease_owner.is_(None),
        )
        async with self._context.database.read() as session:
            instances = list(await session.scalars(up))
        gate = asyncio.Semaphore(_AT_ONCE)

        async def probe(instance: Instance) -> tuple[str, bool]:
            async with gate:
                return instance.id, await self._context.gateway(instance).alive()

        answers = await asyncio.gather(*(probe(instance) for instance in instances))
        self._missed = {instance_id: self.missed(instance_id) + 1 for instance_id, answered in answers if not answered}
        for instance_id, count in self._missed.items():
            if count >= PROBES_MISSED:
                self._look_at(instance_id)
