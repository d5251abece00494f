"""A short campaign of `kill -9`; `scripts/bench faults` is the long one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bot.bench.faults.bench import standin_shape
from bot.bench.faults.campaign import run
from bot.bench.faults.victims import Victim
from bot.bench.standin_image import standin_image
from bot.toolchain import Toolchain

SEED = 4
KILLS = 20


async def test_whatever_is_killed_nothing_is_lost_shown_twice_or_left(toolchain: Toolchain, tmp_path: Path) -> None:
    shape = replace(standin_shape(SEED, KILLS), people=5, message_every=2.0)
    outcome = await run(shape, standin_image(toolchain.image_tag), tmp_path / "log", print)
    assert outcome.account.lost == []
    assert outcome.account.duplicated == []
    assert outcome.account.out_of_order == []
    assert outcome.leftovers == []
    assert outcome.kills.total() >= KILLS
    assert all(outcome.kills[victim] for victim in Victim)
