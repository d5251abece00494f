"""The manual of faults names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = sorted(
    set(re.findall(r"`((?:unit|integration|e2e)/[\w/]+\.py)::(\w+)`", (ROOT / "docs/faults.md").read_text()))
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    source = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)


def test_each_row_names_one() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")]
    without = [row for row in rows if "::" not in row and not row.endswith("| test |")]
    assert not without
    assert len(NAMED) > len(rows)
