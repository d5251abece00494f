"""The list of attempts, the manual and the judges agree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bot.attack import judges, script
from bot.attack.attempts import ATTEMPTS, Kind, markdown
from infra.hardening import LIMITS

PROJECT = Path(__file__).resolve().parents[3]


def test_every_attempt_is_made_and_listed_once() -> None:
    names = [attempt.name for attempt in ATTEMPTS]
    assert len(set(names)) == len(names)
    assert set(names) == judges.JUDGES.keys()
    assert {attempt.kind for attempt in ATTEMPTS} == set(Kind)


def test_the_manual_has_the_list() -> None:
    manual = (PROJECT / "docs/attacks.md").read_text().splitlines()
    table = [line for line in manual if line.startswith("|")]
    assert table == list(markdown())


def test_the_script_needs_nothing_but_python() -> None:
    for name in ("script", "listener"):
        tree = ast.parse((PROJECT / f"bot/attack/{name}.py").read_text())
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not any((module or "").startswith(("bot", "infra")) for module in modules)


def test_the_script_is_named_where_it_is_used() -> None:
    # It passes a command line, which the kernel limits to 128 KiB a word.
    assert len(Path(script.__file__).read_bytes()) < 100_000
    assert {"reach", "work"} <= script.NAMES.keys()


@pytest.mark.parametrize("what", judges.SHARED)
def test_a_declared_host_leaves_nothing_to_use_up(what: str) -> None:
    shared = judges.SHARED[what]
    limit = int(LIMITS[".".join(shared.setting.parts[3:])])
    assert shared.reachable(limit, 64 << 30) == ""


@pytest.mark.parametrize("what", judges.SHARED)
def test_a_limit_that_one_instance_can_use_up_is_told(what: str) -> None:
    assert ": raise fs." in judges.SHARED[what].reachable(8192, 1280 << 20)
