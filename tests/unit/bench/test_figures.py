"""The shape of a figure's line, which other programs read."""

from __future__ import annotations

import json

import pytest

from bot.bench.figures import Figure, print_line, print_table


def test_a_line_begins_with_the_agreed_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(Figure("first-message", "first_reply", 12.34567, "s", 3, peer=16.4, ratio=0.7528, parts={"up": 0.87654}))
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert list(found)[:7] == ["bench", "name", "value", "unit", "peer", "ratio", "n"]
    assert (found["value"], found["peer"], found["ratio"], found["n"]) == (12.3457, 16.4, 0.7528, 3)
    assert found["parts"] == {"up": 0.8765}
    assert found["machine"]["cpus"] >= 1


def test_without_a_peer_its_fields_are_null() -> None:
    line = Figure("hot-path", "ack_p50_ms", 1.0, "ms", 12000).as_json()
    assert (line["peer"], line["ratio"]) == (None, None)
    assert "parts" not in line


def test_the_table_has_a_row_for_each_figure_and_part(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Figure("first-message", "first_reply", 12.3, "s", 3, peer=16.4, ratio=0.75, parts={"up": 0.9})])
    out = capsys.readouterr().out
    assert "first_reply" in out
    assert "0.750" in out
    assert "up" in out
