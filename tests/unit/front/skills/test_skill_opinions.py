"""The registry's verdicts: a pass only where nothing about it is in doubt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.front.skills.opinions import Standing, read
from bot.skills.names import Reference, SkillName

REFERENCE = Reference(SkillName("samples", "city-weather"), "1.0.0")
CLEAN: dict[str, Any] = {
    "requestedSlug": "city-weather",
    "requestedOwnerHandle": "samples",
    "requestedVersion": "1.0.0",
    "slug": "city-weather",
    "version": "1.0.0",
    "publisherHandle": "samples",
    "ok": True,
    "decision": "pass",
    "reasons": [],
    "security": {"status": "clean", "passed": True},
}


def test_a_clean_verdict_passes() -> None:
    assert read(REFERENCE, CLEAN).standing is Standing.CLEAN


@pytest.mark.parametrize(
    ("change", "standing"),
    [
        ({"publisherHandle": "somebody-else"}, Standing.UNCLEAR),
        ({"publisherHandle": None}, Standing.UNCLEAR),
        ({"version": "1.0.1"}, Standing.UNCLEAR),
        ({"version": None}, Standing.UNCLEAR),
        ({"slug": "other"}, Standing.UNCLEAR),
        ({"ok": False}, Standing.UNCLEAR),
        ({"ok": "true"}, Standing.UNCLEAR),
        ({"decision": "fail"}, Standing.UNCLEAR),
        ({"decision": None}, Standing.UNCLEAR),
        ({"security": None}, Standing.UNCLEAR),
        ({"security": {"status": "clean"}}, Standing.UNCLEAR),
        ({"security": {"status": "clean", "passed": False}}, Standing.UNCLEAR),
        ({"security": {"passed": True}}, Standing.UNCLEAR),
        ({"error": {"code": "boom"}}, Standing.UNCLEAR),
        ({"error": {"code": "boom"}, "reasons": ["scan.blocked"]}, Standing.UNCLEAR),
        ({"ok": False, "reasons": ["card.missing"]}, Standing.UNCLEAR),
        ({"ok": False, "security": {"status": "error", "passed": False}}, Standing.UNCLEAR),
        ({"ok": False, "security": {"status": "suspicious", "passed": False}}, Standing.DOUBTFUL),
        ({"ok": False, "security": {"status": "suspicious"}, "version": None}, Standing.DOUBTFUL),
        ({"security": {"status": "suspicious"}, "version": "1.0.1"}, Standing.UNCLEAR),
        ({"security": {"status": "malicious"}, "publisherHandle": "somebody-else"}, Standing.UNCLEAR),
        ({"error": {"code": "skill_not_found"}, "version": None}, Standing.GONE),
        ({"ok": False, "reasons": ["version.not_found"]}, Standing.GONE),
        ({"ok": False, "security": {"status": "pending", "passed": False}}, Standing.PENDING),
        ({"ok": False, "decision": "fail", "reasons": ["scan:stale"]}, Standing.PENDING),
        ({"security": {"status": "malicious", "passed": True}}, Standing.MALICIOUS),
        ({"reasons": ["scan:malicious"]}, Standing.MALICIOUS),
        ({"decision": "blocked"}, Standing.MALICIOUS),
        ({"reasons": ["publisher.blocked"]}, Standing.MALICIOUS),
    ],
)
def test_what_is_in_doubt_does_not_pass(change: dict[str, Any], standing: Standing) -> None:
    found = read(REFERENCE, {**CLEAN, **change})
    assert found.standing is standing
    assert found.says.endswith(".")


def test_silence_does_not_pass() -> None:
    assert read(REFERENCE, None).standing is Standing.UNCLEAR


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(CLEAN)), JUNK))
def test_no_item_breaks_the_reader_or_passes_by_accident(change: dict[str, Any]) -> None:
    found = read(REFERENCE, {**CLEAN, "ok": False, **{key: change[key] for key in change if key != "ok"}})
    assert found.standing is not Standing.CLEAN
