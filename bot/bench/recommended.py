"""What recommended skills cost somebody new: the first reply with three in the plan beside the one with none.

As :mod:`bot.bench.new_user`, in turns, each with a demo of its own: what its pool has was made with its sets.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import func, select

from bot.bench.figures import Figure, Report
from bot.bench.first_message import from_a_stranger, reached
from bot.bench.new_user import ASLEEP_FOR, until_full
from bot.demo.app import running_demo
from bot.demo.clean import clean
from bot.demo.settings import NO_SETS
from bot.store.tables import Instance, SkillLock, SkillOrigin
from bot.timeline import Stage

Tell = Callable[[str], None]


async def measure(skills: Sequence[str], rounds: int, report: Report, tell: Tell) -> None:
    """Measure both `rounds` times; `skills` as in a file of sets. The ratio is the median of the rounds' own ratios."""
    folder = Path(tempfile.mkdtemp(prefix="zaki-bench-"))
    sets = folder / "sets.toml"
    names = ", ".join(f'"{skill}"' for skill in skills)
    sets.write_text(f"[plans]\nstandard = [{names}]\n")
    try:
        pairs = []
        for number in range(1, rounds + 1):
            tell(f"round {number} of {rounds}: somebody new, {len(skills)} recommended skills")
            ours = await _first_reply(folder / "state", sets, len(skills), tell)
            tell(f"round {number} of {rounds}: somebody new, none")
            pairs.append((ours, await _first_reply(folder / "state", NO_SETS, 0, tell)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    report(Figure("skills", "hot_path_with_skills", medians[0], "s", rounds, medians[1], ratio))


async def _first_reply(state: Path, sets: Path, skills: int, tell: Tell) -> float:
    """Seconds to the first reply of an instance of a pool with these sets, which has so many skills."""
    held = select(func.count()).select_from(SkillLock).join(Instance, Instance.id == SkillLock.instance_id)
    held = held.where(Instance.user_id.is_(None), SkillLock.origin == SkillOrigin.INSTALL)
    try:
        async with running_demo(state, 0, tell, pool=1, sets=sets) as demo:
            tell("waiting for the pool")
            await until_full(demo, ASLEEP_FOR)
            async with demo.service.database.read() as session:
                found = await session.scalar(held)
            if found != skills:
                raise RuntimeError(f"The pool's instance has {found} of {skills} skills.")
            return reached(await from_a_stranger(demo), Stage.REPLIED)
    finally:
        await clean(state, tell)
