"""From a bare VM to one that serves, and `up` whose way in is cut at random moments; on an emulated Debian.

The VM and its operator are those of the tests, so this runs in a checkout only.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.bench.figures import Figure, Report
from bot.standins.telegram import SimulatorClient

if TYPE_CHECKING:
    from tests.vm.machine import Vm
    from tests.vm.operator import Operator
    from tests.vm.wire import Wire

Tell = Callable[[str], None]
_BARE, _CUTS = "bare-vm", "cuts"


@dataclass(frozen=True)
class _Stand:
    vm: Vm
    wire: Wire
    operator: Operator
    people: SimulatorClient
    #: Seconds until somebody could log in to the VM.
    booted: float


async def measure(report: Report, tell: Tell) -> None:
    """One VM from its first boot to the first reply."""
    from tests.vm.operator import answered

    async with _stand(tell) as stand:
        tell("zaki host up …")
        begun = time.monotonic()
        made = await stand.operator.first_up()
        serving = time.monotonic() - begun
        report(Figure(_BARE, "boot", stand.booted, "s", 1))
        parts = {name: float(seconds) for name, seconds in made["steps"].items()}
        rest = serving - sum(parts.values())
        report(Figure(_BARE, "up", serving, "s", 1, parts={**parts, "program, look and engine": rest}))
        for name, seconds in parts.items():
            report(Figure(_BARE, f"up: {name}", seconds, "s", 1))
        begun = time.monotonic()
        await answered(stand.people, await stand.people.new_user(), "hello")
        report(Figure(_BARE, "first reply to a new person", time.monotonic() - begun, "s", 1))
        report(Figure(_BARE, "bare to serving", stand.booted + serving, "s", 1))
        begun = time.monotonic()
        again = await stand.operator.up()
        report(Figure(_BARE, "second up", time.monotonic() - begun, "s", 1))
        report(Figure(_BARE, "changes of the second up", float(again["changed"]), "", 1))


async def measure_cuts(cuts: int, seed: int, report: Report, tell: Tell) -> None:
    """`up` again and again, each cut at a random moment, with a new log-in after each; then one to the end."""
    from tests.vm.operator import cut_again_and_again

    async with _stand(tell) as stand:
        locked_out = await cut_again_and_again(stand.operator, stand.wire, cuts, seed, tell)
        made = await stand.operator.first_up()
        again = await stand.operator.up()
    report(Figure(_CUTS, "cuts", cuts, "", 1))
    report(Figure(_CUTS, "locked_out", locked_out, "", cuts))
    report(Figure(_CUTS, "finished", float(made["changed"] and not again["changed"]), "", 1))


@asynccontextmanager
async def _stand(tell: Tell) -> AsyncIterator[_Stand]:
    from tests.vm.machine import Agent, Disk, running_vm
    from tests.vm.operator import Operator, disk_for_serving, running_telegram
    from tests.vm.wire import Wire

    with tempfile.TemporaryDirectory(prefix="zaki-bench-") as name:
        folder = Path(name)
        for part in ("disk", "keys", "vm", "operator"):
            (folder / part).mkdir()
        agent = Agent(folder / "keys")
        tell("starting a bare VM …")
        try:
            disk = await asyncio.to_thread(lambda: disk_for_serving(Disk.build(), folder / "disk"))
            begun = time.monotonic()
            with running_vm(disk, agent, folder / "vm") as vm:
                booted = time.monotonic() - begun
                wire = Wire(vm.port)
                try:
                    with running_telegram() as telegram:
                        async with SimulatorClient(telegram) as people:
                            operator = await Operator.begin(vm, folder / "operator", telegram, wire.port)
                            yield _Stand(vm, wire, operator, people, booted)
                finally:
                    wire.close()
        finally:
            agent.close()
