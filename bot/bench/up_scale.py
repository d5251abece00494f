"""Costs of Pulumi's `up` for one user, with one user's stack present and with many: they must stay flat."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bot.bench.figures import Figure, Report
from bot.credentials import new_instance_id
from bot.demo.host import ensure_host, remove_host
from bot.hostfacts import HostFacts
from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackManager
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec

BENCH = "up-scale"
#: Stacks that are made or removed at the same time while nothing is measured.
_AT_ONCE = 4
_TELL_EVERY = 100


@dataclass
class _Times:
    """Seconds of each measured `up`."""

    first: list[float] = field(default_factory=list)
    unchanged: list[float] = field(default_factory=list)


class _Users:
    """Users' stacks on one host, measured one by one."""

    def __init__(self, state: Path, stacks: StackManager, containers: Containers, host: HostFacts) -> None:
        self._state = state
        self._stacks = stacks
        self._containers = containers
        self._host = host
        self._number = 1
        self.ids: list[str] = []

    async def add(self) -> InstanceSpec:
        """One more user's stack."""
        self._number += 1
        spec = InstanceSpec(
            id=new_instance_id(),
            address=self._host.gateway + self._number,
            network=self._host.network,
            image=self._host.image,
        )
        self.ids.append(spec.id)
        await self._stacks.up(spec)
        return spec

    async def measure(self, times: _Times) -> None:
        """The first `up` of a new user, and one more without changes; the user is gone afterwards."""
        began = time.perf_counter()
        spec = await self.add()
        declared = time.perf_counter()
        await self._stacks.up(spec)
        times.first.append(declared - began)
        times.unchanged.append(time.perf_counter() - declared)
        await self._stacks.destroy(spec.id)
        self.ids.remove(spec.id)

    async def grow(self, count: int, tell: Callable[[str], None]) -> None:
        """Add users until there are `count`."""
        free = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with free:
                await self.add()
                if len(self.ids) % _TELL_EVERY == 0:
                    tell(f"{len(self.ids)} stacks")

        async with asyncio.TaskGroup() as group:
            for _ in range(count - len(self.ids)):
                group.create_task(one())

    async def shrink(self, count: int) -> None:
        """Remove containers and volumes of all but `count` users, and what is left of their stacks."""
        for instance_id in self.ids[count:]:
            await self._containers.remove_orphan(instance_id)
            shutil.rmtree(self._state / "stacks" / instance_id, ignore_errors=True)
        del self.ids[count:]


async def measure(count: int, rounds: int, report: Report, tell: Callable[[str], None]) -> None:
    """Measure `rounds` times each with one stack present, with `count`, and with one again; report them and the ratio.

    Between the first and the last is a quarter of an hour: what the machine's speed drifts by is in both halves of one.
    """
    state = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    one, many = _Times(), _Times()
    try:
        tell("declaring the host")
        host = await ensure_host(state)
        async with Containers.connect() as containers:
            stacks = StackManager(Toolchain.from_pins(), state, containers, concurrency=_AT_ONCE)
            users = _Users(state, stacks, containers, host)
            try:
                # The first one of all fills the machine's caches.
                await users.measure(_Times())
                await users.grow(1, tell)
                tell("measuring with 1 stack")
                for _ in range(rounds):
                    await users.measure(one)
                tell(f"making {count} stacks, which takes a while")
                await users.grow(count, tell)
                tell(f"measuring with {count} stacks")
                for _ in range(rounds):
                    await users.measure(many)
                tell("removing them, and measuring with 1 stack again")
                await users.shrink(1)
                for _ in range(rounds):
                    await users.measure(one)
            finally:
                tell("removing what is left")
                await users.shrink(0)
                await stacks.close()
    finally:
        await remove_host(state)
        shutil.rmtree(state)
    for name, before, after in (("up", one.first, many.first), ("unchanged", one.unchanged, many.unchanged)):
        least, most = statistics.median(before), statistics.median(after)
        report(Figure(BENCH, f"{name}_1", least, "s", rounds))
        report(Figure(BENCH, f"{name}_{count}", most, "s", rounds))
        report(Figure(BENCH, f"{name}_{count}_over_1", most / least, "", rounds, ratio=most / least))
