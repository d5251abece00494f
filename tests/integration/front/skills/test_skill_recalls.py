"""What is recalled is gone from the mirror at once, and marked wherever it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bot.front.skills.errors import Unavailable
from bot.skills import locks, recalls
from bot.skills.names import Reference, SkillName
from bot.standins.registry import Fault
from bot.store.tables import SkillOrigin, SkillVerdict
from tests.integration.front.skills.conftest import INSTANCE, OTHER, Site

TIDES, WEATHER = SkillName("samples", "tide-tables"), SkillName("samples", "city-weather")


async def test_a_recalled_version_is_gone_for_everybody_and_marked_where_it_is(site: Site) -> None:
    await site.download("city-weather", "1.0.0")
    await site.download("city-weather", "1.1.0", address="127.0.0.2")
    archive = str((await site.row("city-weather", "1.0.0")).archive)
    done = await site.mirror.recall(WEATHER, "1.0.0", "It tells everybody where you are.")
    assert done.instances == (INSTANCE,)
    assert not site.mirror.keeping.shelf.holds(archive)
    answer = await site.download("city-weather", "1.0.0", address="127.0.0.2")
    assert answer.status_code == 410
    assert "It tells everybody where you are." in answer.text
    verdicts = {"items": [{"slug": "city-weather", "ownerHandle": "samples", "version": "1.0.0"}]}
    async with site.instance() as client:
        (item,) = (await client.post("/api/v1/skills/-/security-verdicts", json=verdicts)).json()["items"]
    assert (item["ok"], item["reasons"]) == (False, ["zaki.blocked"])
    # The other version is another.
    assert (await site.download("city-weather", "1.1.0")).status_code == 200
    async with site.database.read() as session:
        assert [lock.version for lock in await locks.to_remove(session, INSTANCE)] == ["1.0.0"]
        assert await locks.to_remove(session, OTHER) == []
        assert await locks.waiting(session) == [INSTANCE]
    assert {entry.instance_id for entry in await site.audited("skill.recall")} == {None, INSTANCE}


async def test_a_recalled_skill_is_gone_in_every_version_that_is_and_will_be(site: Site) -> None:
    await site.download("city-weather", "1.0.0")
    await site.download("city-weather", "1.1.0")
    done = await site.mirror.recall(WEATHER, None, "Its publisher was taken over.")
    assert done.instances == (INSTANCE,)
    for version in ("1.0.0", "1.1.0", "7.0.0"):
        assert (await site.download("city-weather", version)).status_code == 410
    install = await site.install("city-weather")
    assert (install.status_code, install.json()["ok"]) == (410, False)
    assert "taken over" in install.json()["message"]
    assert (await site.get("/api/v1/search", q="weather")).json()["results"] == []
    async with site.database.read() as session:
        assert len(await locks.to_remove(session, INSTANCE)) == 2


async def test_what_is_removed_is_marked_no_more_and_what_is_noted_late_is(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    await site.mirror.recall(TIDES, None, "By mistake.")
    async with site.database.write() as session:
        await locks.removed(session, INSTANCE, Reference(TIDES, "1.0.0"))
        await locks.note(session, OTHER, Reference(TIDES, "1.0.0"), "sha256:0", SkillOrigin.INSTALL)
    async with site.database.read() as session:
        assert await locks.waiting(session) == [OTHER]


async def test_a_recall_that_is_taken_back_leaves_what_is_there_and_vets_anew(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    await site.mirror.recall(TIDES, None, "By mistake.")
    async with site.database.write() as session:
        assert await recalls.lift(session, TIDES, "1.0.0") == 0
        assert await recalls.lift(session, TIDES, None) == 1
    async with site.database.read() as session:
        assert await locks.waiting(session) == []
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200
    assert site.registry.downloads["@samples/tide-tables@1.0.0"] == 2


async def test_an_install_settles_which_version_there_is(site: Site) -> None:
    await site.download("city-weather", "1.0.0")
    await site.download("city-weather", "1.1.0")
    digest = str((await site.row("city-weather", "1.1.0")).digest)
    async with site.database.write() as session:
        await locks.settle(session, INSTANCE, Reference(WEATHER, "1.1.0"), digest)
    # The other was downloaded too, and may be anywhere.
    there = {lock.version: lock.origin for lock in await site.locks()}
    assert there == {"1.0.0": SkillOrigin.DOWNLOAD, "1.1.0": SkillOrigin.INSTALL}
    # A download says less than a look.
    await site.download("city-weather", "1.1.0")
    assert {lock.version: lock.origin for lock in await site.locks()} == there
    async with site.database.write() as session:
        await locks.forget(session, INSTANCE)
    assert await site.locks() == []


async def test_a_recall_finds_what_was_downloaded_and_uninstalled_again(site: Site) -> None:
    await site.download("city-weather", "1.0.0")
    await site.download("city-weather", "1.1.0")
    async with site.database.write() as session:
        await locks.settle(session, INSTANCE, Reference(WEATHER, "1.1.0"), "sha256:0")
        await locks.uninstalled(session, INSTANCE, WEATHER)
    assert await site.locks() == []
    await site.mirror.recall(WEATHER, None, "It tells everybody where you are.")
    async with site.database.read() as session:
        assert [lock.version for lock in await locks.to_remove(session, INSTANCE)] == ["1.0.0"]


async def test_what_is_downloaded_again_counts_again(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    async with site.database.write() as session:
        await locks.uninstalled(session, INSTANCE, TIDES)
    await site.download("tide-tables", "1.0.0")
    assert [lock.origin for lock in await site.locks()] == [SkillOrigin.DOWNLOAD]


async def test_a_verdict_that_turns_bad_recalls(site: Site) -> None:
    await site.download("city-weather", "1.1.0")
    await site.download("tide-tables", "1.0.0")
    assert await site.mirror.check_again() == []
    site.registry.turn("@samples/city-weather", "1.1.0", "malicious", "scan:malicious")
    (change,) = await site.mirror.check_again()
    assert (str(change.reference), change.instances) == ("@samples/city-weather@1.1.0", 1)
    assert change.recalled is not None
    assert (await site.download("city-weather", "1.1.0")).status_code == 410
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200
    async with site.database.read() as session:
        assert [lock.slug for lock in await locks.to_remove(session, INSTANCE)] == ["city-weather"]
    assert await site.mirror.check_again() == []


async def test_what_disappears_is_served_no_more_and_left_where_it_is(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    site.registry.remove("@samples/tide-tables")
    (change,) = await site.mirror.check_again()
    assert (change.recalled, change.instances) == (None, 1)
    answer = await site.download("tide-tables", "1.0.0", address="127.0.0.2")
    assert (answer.status_code, "no longer has it" in answer.text) == (403, True)
    async with site.database.read() as session:
        assert await locks.waiting(session) == []
    assert len(await site.audited("skill.withdrawn")) == 1


async def test_a_registry_that_is_away_changes_no_verdict(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    site.registry.faults["*"] = Fault(garbage=True)
    with pytest.raises(Unavailable, match="none of its answers"):
        await site.mirror.check_again()
    assert (await site.row("tide-tables", "1.0.0")).verdict == SkillVerdict.PASSED
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200


#: What the registry says of everything at once, where something broke.
EMPTY: list[dict[str, Any]] = [
    {},
    {"items": []},
    {"items": {}},
    {"items": [None, 5, "x"]},
    {"verdicts": [{"ok": True}]},
]
BROKEN: list[dict[str, Any]] = [
    {"ok": False, "security": None},
    {"ok": False, "error": {"code": "internal"}, "reasons": ["scan.blocked"], "security": None},
    {"publisherHandle": None},
    {"publisherHandle": "others", "security": {"status": "malicious", "passed": False}},
    {"version": "9.9.9", "security": {"status": "suspicious", "passed": False}},
    {"requestedVersion": "9.9.9"},
    {"security": {"state": "clean", "passed": True}},
]
FAULTS = [("*", Fault(answer=answer)) for answer in EMPTY]
FAULTS += [("@samples/tide-tables", Fault(verdict=item)) for item in BROKEN]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "fault"), FAULTS)
async def test_an_answer_that_says_nothing_takes_nothing_back(site: Site, name: str, fault: Fault) -> None:
    await site.download("tide-tables", "1.0.0")
    site.registry.faults[name] = fault
    assert await site.mirror.check_again() == []
    row = await site.row("tide-tables", "1.0.0")
    assert row.verdict == SkillVerdict.PASSED
    assert [lock.remove_since for lock in await site.locks()] == [None]
    assert (await site.download("tide-tables", "1.0.0", address="127.0.0.2")).status_code == 200
    # Where its archive had to make room, it waits for an answer that holds.
    site.mirror.keeping.shelf.discard(str(row.archive))
    site.registry.faults["@samples/tide-tables"] = Fault(verdict=fault.verdict)
    assert (await site.download("tide-tables", "1.0.0")).status_code == 503
    assert (await site.row("tide-tables", "1.0.0")).verdict == SkillVerdict.PASSED
    site.registry.faults.clear()
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "fault"), FAULTS)
async def test_nothing_new_is_served_for_an_answer_that_says_nothing(site: Site, name: str, fault: Fault) -> None:
    site.registry.faults[name] = fault
    site.registry.faults["@samples/tide-tables"] = Fault(verdict=fault.verdict)
    assert (await site.download("tide-tables", "1.0.0")).status_code == 403
    assert site.registry.downloads.total() == 0
    site.registry.faults.clear()
    await site.hours_pass()
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200


async def test_a_version_that_was_withdrawn_first_is_recalled_where_it_is(site: Site) -> None:
    await site.download("tide-tables", "1.0.0")
    site.registry.turn("@samples/tide-tables", "1.0.0", "pending", "scan:pending")
    (withdrawn,) = await site.mirror.check_again()
    assert withdrawn.recalled is None
    site.registry.turn("@samples/tide-tables", "1.0.0", "suspicious", "suspicious.dynamic_code_execution")
    (change,) = await site.mirror.check_again()
    assert change.recalled is not None
    assert change.recalled.instances == (INSTANCE,)
    async with site.database.read() as session:
        assert await locks.waiting(session) == [INSTANCE]


async def test_a_recall_beats_a_vetting_that_is_under_way(site: Site) -> None:
    site.registry.faults["@samples/tide-tables"] = Fault(delay_ms=150)
    asked = asyncio.create_task(site.download("tide-tables", "1.0.0"))
    while site.registry.requests.total() < 2:
        await asyncio.sleep(0.01)
    await site.mirror.recall(TIDES, None, "Just now.")
    assert (await asked).status_code == 410
    row = await site.row("tide-tables", "1.0.0")
    assert (row.verdict, row.archive) == (SkillVerdict.RECALLED, None)
    folder = site.mirror.keeping.shelf.path("0" * 64).parent.parent
    assert list(folder.rglob("*.zip")) == []
