"""What is done about a skill of an instance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.provisioner.skills.decision import AGAIN, Act, Present, Version, Wished, decide, order
from bot.skills.names import SkillName
from bot.store.tables import SkillPolicy, SkillSource, SkillStatus

NAME = SkillName("samples", "tides")
NOW = 1_000_000.0
WISHED = Wished(NAME, True, SkillPolicy.PATCH, None, None, SkillSource.PERSON, NOW - 100)
THERE = Present("1.0.0", fetched=True, status=SkillStatus.INSTALLED, updated_at=NOW - 50)
CURL = {"bins": ["curl"]}


def act(
    wished: Wished, present: Present, *versions: str, needs: dict[str, list[str]] | None = None
) -> tuple[Act, str | None]:
    step = decide(wished, present, [Version(version, needs or {}) for version in versions], None, NOW)
    return step.act, step.version


@pytest.mark.parametrize(
    ("policy", "versions", "expected"),
    [
        (SkillPolicy.PATCH, ("1.0.0", "1.0.1", "1.0.10", "1.1.0"), (Act.UPDATE, "1.0.10")),
        (SkillPolicy.PATCH, ("1.0.0", "1.1.0", "2.0.0"), (Act.NOTHING, None)),
        (SkillPolicy.LATEST, ("1.0.0", "1.1.0", "2.0.0"), (Act.UPDATE, "2.0.0")),
        (SkillPolicy.LATEST, ("0.9.0", "1.0.0"), (Act.NOTHING, None)),
        # One for trial is nobody's newest.
        (SkillPolicy.LATEST, ("1.0.0", "2.0.0-rc.1"), (Act.NOTHING, None)),
        (SkillPolicy.LATEST, ("1.0.0", "yesterday's"), (Act.NOTHING, None)),
        (SkillPolicy.PIN, ("1.0.0", "1.0.1"), (Act.NOTHING, None)),
    ],
)
def test_a_policy_says_which_versions_come(
    policy: SkillPolicy, versions: tuple[str, ...], expected: tuple[Act, str | None]
) -> None:
    assert act(replace(WISHED, policy=policy), THERE, *versions) == expected


def test_what_is_wished_and_not_there_is_installed() -> None:
    assert act(WISHED, Present()) == (Act.INSTALL, None)
    assert act(replace(WISHED, policy=SkillPolicy.PIN, version="1.0.0"), Present()) == (Act.INSTALL, "1.0.0")


def test_a_pinned_version_is_the_one_that_is_wanted_older_or_newer() -> None:
    pinned = replace(WISHED, policy=SkillPolicy.PIN, version="0.9.0")
    assert act(pinned, THERE, "1.0.0") == (Act.UPDATE, "0.9.0")
    assert act(replace(pinned, version="1.0.0"), THERE, "1.0.0", "1.0.1") == (Act.NOTHING, None)


def test_what_an_update_newly_needs_is_asked_for_once() -> None:
    assert act(WISHED, THERE, "1.0.1", needs=CURL) == (Act.ASK, "1.0.1")
    asked = replace(THERE, status=SkillStatus.ASKS, offered="1.0.1")
    assert act(WISHED, asked, "1.0.1", needs=CURL) == (Act.NOTHING, None)
    # A later one may need something else again.
    assert act(WISHED, asked, "1.0.1", "1.0.2", needs=CURL) == (Act.ASK, "1.0.2")
    # What was agreed to is that version, and no other.
    assert act(replace(WISHED, approved="1.0.1"), asked, "1.0.1", needs=CURL) == (Act.UPDATE, "1.0.1")
    assert act(replace(WISHED, approved="1.0.1"), asked, "1.0.1", "1.0.2", needs=CURL) == (Act.ASK, "1.0.2")
    # What the installed one needed too is not asked for.
    assert act(WISHED, replace(THERE, needs=CURL), "1.0.1", needs=CURL) == (Act.UPDATE, "1.0.1")


def test_a_plans_pin_agrees_to_nothing_for_its_people() -> None:
    plan = replace(WISHED, policy=SkillPolicy.PIN, version="2.0.0", source=SkillSource.PLAN)
    assert act(plan, THERE, "2.0.0", needs=CURL) == (Act.ASK, "2.0.0")
    assert act(replace(plan, approved="2.0.0"), THERE, "2.0.0", needs=CURL) == (Act.UPDATE, "2.0.0")
    assert act(plan, THERE, "2.0.0") == (Act.UPDATE, "2.0.0")
    # Nobody has looked yet what it needs.
    assert act(plan, THERE, "1.0.0") == (Act.NOTHING, None)
    assert act(plan, Present()) == (Act.INSTALL, "2.0.0")
    # Whoever pins it themselves has agreed.
    assert act(replace(plan, source=SkillSource.PERSON), THERE, "2.0.0", needs=CURL) == (Act.UPDATE, "2.0.0")


def test_an_update_that_broke_off_is_tried_again_soon_and_not_at_once() -> None:
    broke_off = replace(THERE, status=SkillStatus.INSTALLING, updated_at=NOW - 5)
    assert act(WISHED, broke_off, "1.0.1") == (Act.NOTHING, None)
    assert act(replace(WISHED, asked_at=NOW - 1), broke_off, "1.0.1") == (Act.UPDATE, "1.0.1")
    assert act(WISHED, replace(broke_off, updated_at=NOW - 90), "1.0.1") == (Act.UPDATE, "1.0.1")
    # Whatever else is wanted meanwhile, what lies aside is looked at.
    assert act(WISHED, replace(broke_off, updated_at=NOW - 90), "1.0.0") == (Act.SETTLE, "1.0.0")


def test_the_version_that_was_shown_is_the_one_that_is_installed() -> None:
    shown = replace(WISHED, approved="1.0.0")
    assert act(shown, Present(), "1.0.0", "1.0.1", needs=CURL) == (Act.INSTALL, "1.0.0")
    # Who names a version wants that one.
    pinned = replace(shown, policy=SkillPolicy.PIN, version="1.0.1")
    assert act(pinned, Present(), "1.0.0", "1.0.1") == (Act.INSTALL, "1.0.1")


def test_an_offer_that_was_taken_back_is_forgotten() -> None:
    asked = replace(THERE, status=SkillStatus.ASKS, offered="1.0.1")
    assert act(WISHED, asked, "1.0.0") == (Act.SETTLE, "1.0.0")


def test_what_failed_waits_unless_somebody_asks_again() -> None:
    failed = Present(None, fetched=False, status=SkillStatus.FAILED, updated_at=NOW - 50)
    assert act(WISHED, failed) == (Act.NOTHING, None)
    assert act(replace(WISHED, asked_at=NOW - 10), failed) == (Act.INSTALL, None)
    assert act(WISHED, replace(failed, updated_at=NOW - AGAIN - 1)) == (Act.INSTALL, None)
    assert act(replace(WISHED, present=False), failed) == (Act.NOTHING, None)


def test_what_is_not_wanted_any_more_goes() -> None:
    unwanted = replace(WISHED, present=False)
    assert act(unwanted, THERE) == (Act.REMOVE, "1.0.0")
    # The assistant fetched it by itself.
    assert act(unwanted, Present(fetched=True)) == (Act.REMOVE, None)
    assert act(unwanted, Present()) == (Act.NOTHING, None)
    # A recall took it, and a new session is owed for it.
    recalled = Present(status=SkillStatus.REMOVING, offered="1.0.0")
    assert act(unwanted, recalled) == (Act.NOTHING, None)


def test_anothers_skill_of_the_same_name_is_in_the_way() -> None:
    step = decide(WISHED, Present(), [], SkillName("other", "tides"), NOW)
    assert step.act is Act.FAIL
    assert "@other/tides" in step.says


def test_a_person_waits_for_their_own_wishes_and_not_for_their_plans() -> None:
    assert decide(WISHED, Present(), [], None, NOW).urgent
    assert not decide(replace(WISHED, source=SkillSource.PLAN), Present(), [], None, NOW).urgent
    assert not decide(WISHED, THERE, [Version("1.0.1", {})], None, NOW).urgent


def test_versions_are_ordered_by_their_numbers() -> None:
    versions = ["1.0.0", "1.0", "v1.0.1", "1.10.0", "1.9.9", "2.0.0-beta", "2.0.0"]
    keys = {version: order(version) for version in versions}
    assert None not in keys.values()
    ranked = sorted(versions, key=lambda version: keys[version] or ((), False, ""))
    assert ranked == ["1.0.0", "1.0", "v1.0.1", "1.9.9", "1.10.0", "2.0.0-beta", "2.0.0"]
    assert order("latest") is None
