"""What a sleeping instance takes, and how many this machine holds."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bot.bench.figures import Figure, Report
from bot.bench.wake import instance_of, put_to_sleep
from bot.demo.app import running_demo
from bot.demo.clean import clean
from bot.demo.say import say
from bot.provisioner.containers import Containers
from bot.provisioner.sleep import AWAKE_BYTES, ContainerMemory, MemoryUse, Room, read_room
from bot.provisioner.sleep.pressure import reserve

BENCH = "density"
#: Instances that are awake at the same time while the others sleep, one for each core and one to wake.
_AWAKE = 3
_MB = 1e6
#: Seconds after which what the sleeps set going is over.
_SETTLED_AFTER = 5.0


async def measure(sleepers: int, report: Report, tell: Callable[[str], None]) -> None:
    """Put so many instances to sleep, one after the other, and report the median of what each takes.

    The model: a sleeper keeps `asleep_mb` in memory and `swapped_mb` in swap. Compressed swap takes memory itself,
    `compressed_mb` for each. `held` is how many sleep on this machine beside a few that are awake: what its memory
    holds of the first and the third, or what its swap holds of the second, whichever is less.
    """
    folder = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    state = folder / "state"
    uses: list[MemoryUse] = []
    compressed: list[float] = []
    try:
        async with running_demo(state, 0, tell, pool=0) as demo, Containers.connect() as containers:
            empty = read_room()
            for number in range(1, sleepers + 1):
                tell(f"sleeper {number} of {sleepers}")
                person = await demo.people.new_user()
                await say(demo.people, demo.service.database, person, "Hello!", lambda _steps: None)
                instance_id = await instance_of(demo, person)
                before = _zram_bytes()
                await put_to_sleep(demo, instance_id)
                await asyncio.sleep(_SETTLED_AFTER)
                compressed.append(_zram_bytes() - before)
                process = await containers.process(instance_id)
                assert process is not None  # noqa: S101 - it was put to sleep just now
                uses.append(ContainerMemory.of(process).usage())
    finally:
        await clean(state, tell)
        shutil.rmtree(folder, ignore_errors=True)
    asleep = statistics.median(use.resident_bytes for use in uses)
    swapped = statistics.median(use.swapped_bytes for use in uses)
    squeezed = statistics.median(compressed)
    report(Figure(BENCH, "asleep_mb", asleep / _MB, "MB", sleepers))
    report(Figure(BENCH, "swapped_mb", swapped / _MB, "MB", sleepers))
    report(Figure(BENCH, "compressed_mb", squeezed / _MB, "MB", sleepers))
    by_memory, by_swap = _held(empty, asleep + squeezed, swapped)
    parts = {"by_memory": float(by_memory), "by_swap": float(by_swap)}
    report(Figure(BENCH, "held", min(by_memory, by_swap), "", sleepers, parts=parts))


def _held(room: Room, in_memory: float, in_swap: float) -> tuple[int, int]:
    """How many sleepers the memory and the swap of a machine with this room hold."""
    memory = room.available_bytes - reserve(room) - _AWAKE * AWAKE_BYTES
    return int(max(0.0, memory) / in_memory), int(room.swap_free_bytes / in_swap)


def _zram_bytes() -> float:
    """Memory that compressed swap takes now."""
    return float(sum(int((device / "mm_stat").read_text().split()[2]) for device in Path("/sys/block").glob("zram*")))
