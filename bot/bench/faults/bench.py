"""The figures of a campaign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bot.bench.faults.campaign import Outcome, Shape, run
from bot.bench.faults.victims import Victim
from bot.bench.figures import Figure, Report
from bot.bench.standin_image import standin_image
from bot.toolchain import Toolchain, cache_folder

BENCH = "faults"
_TOLD_AT_MOST = 20


class CampaignFailed(Exception):
    """Something was lost, shown twice, out of order or left; the message says how to run the same again."""


def standin_shape(seed: int, kills: int) -> Shape:
    """With the stand-in, which starts in a second: a kill a second."""
    every = {Victim.FRONT: 2.5, Victim.PROVISIONER: 2.5, Victim.ENGINE: 3.0, Victim.INSTANCE: 3.0}
    return Shape(seed, kills, 12, 4.0, 8.0, 2, every, spare=45.0, patience=240.0)


def real_shape(seed: int, kills: int) -> Shape:
    """With OpenClaw, whose own breaker trips after three unclean ends within five minutes."""
    every = {Victim.FRONT: 12.0, Victim.PROVISIONER: 20.0, Victim.ENGINE: 5.0, Victim.INSTANCE: 12.0}
    return Shape(seed, kills, 3, 10.0, 45.0, 0, every, spare=160.0, patience=480.0)


async def measure(shape: Shape, *, real: bool, report: Report, tell: Callable[[str], None]) -> None:
    """Run a campaign and report it; raises :class:`CampaignFailed` where one of its lines is not 0."""
    tell(f"seed {shape.seed}, {shape.kills} kills, {shape.people} people")
    image = None if real else standin_image(Toolchain.from_pins().image_tag)
    log = _log_file(shape.seed)
    outcome = await run(shape, image, log, tell)
    _report(outcome, report)
    _explain(outcome, shape, real, log, tell)


def _log_file(seed: int) -> Path:
    """What the service of a campaign logged, and whom the campaign killed when; empty."""
    folder = cache_folder() / "log"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"faults-{seed}.log"
    file.write_text("")
    return file


def _report(outcome: Outcome, report: Report) -> None:
    account, n = outcome.account, outcome.account.messages
    killed = {victim.value: float(outcome.kills[victim]) for victim in Victim}
    report(Figure(BENCH, "kills", outcome.kills.total(), "", 1, parts=killed))
    report(Figure(BENCH, "messages", n, "", 1))
    report(Figure(BENCH, "deletions", outcome.departures, "", 1))
    for name, found in (
        ("lost", account.lost),
        ("duplicated", account.duplicated),
        ("out_of_order", account.out_of_order),
    ):
        report(Figure(BENCH, name, len(found), "", n))
    report(Figure(BENCH, "leftovers", len(outcome.leftovers), "", 1))
    report(Figure(BENCH, "marked", len(account.marked), "", n))
    report(Figure(BENCH, "unconfirmed", len(account.unconfirmed), "", n))
    report(Figure(BENCH, "seconds", outcome.seconds, "s", 1))


def _explain(outcome: Outcome, shape: Shape, real: bool, log: Path, tell: Callable[[str], None]) -> None:
    account = outcome.account
    wrong = {
        "lost": account.lost,
        "duplicated": account.duplicated,
        "out of order": account.out_of_order,
        "left": outcome.leftovers,
    }
    for name, found in wrong.items():
        for line in found[:_TOLD_AT_MOST]:
            tell(f"{name}: {line}")
        if len(found) > _TOLD_AT_MOST:
            tell(f"{name}: and {len(found) - _TOLD_AT_MOST} more")
    if any(wrong.values()):
        again = f"scripts/bench faults --seed {shape.seed} --kills {shape.kills}{' --real' if real else ''}"
        raise CampaignFailed(f"The campaign failed; run `{again}` to see it again, and read {log}.")
