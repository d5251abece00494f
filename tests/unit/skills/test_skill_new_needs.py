"""What a version asks for beyond another one."""

from __future__ import annotations

from bot.skills.needs import new_needs


def test_needs_are_compared_by_kind() -> None:
    before = {"bins": ["curl"], "os": ["linux"]}
    after = {"bins": ["curl", "jq"], "env": ["KEY"], "os": ["linux", "darwin"]}
    assert new_needs(before, after) == {"bins": ["jq"], "env": ["KEY"]}
    assert new_needs(after, before) == {}
