"""What `security.installPolicy` of an instance is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.skills import locks
from bot.skills.names import Reference, SkillName
from bot.standins.registry import Fault
from bot.store import now
from bot.store.tables import Instance, SkillPolicy, SkillSource, SkillVersion, SkillWish, User
from tests.integration.front.skills.conftest import INSTANCE, MakeSite, Site

#: One database will do here.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

HUB = {"type": "clawhub", "slug": "tide-tables", "ownerHandle": "samples", "version": "1.0.0"}


def request(origin: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"protocolVersion": 1, "targetType": "skill", "targetName": "x", "origin": origin, **changes}


async def decision(site: Site, asked: object, digest: str | None) -> tuple[str, str]:
    async with site.instance() as client:
        answer = await client.post("/policy", json={"request": asked, "digest": digest})
    assert answer.status_code == 200
    said = answer.json()
    assert said["protocolVersion"] == 1
    return said["decision"], said.get("reason", "")


async def test_what_was_vetted_is_allowed_wherever_it_comes_from(site: Site) -> None:
    await site.install("tide-tables")
    digest = (await site.row("tide-tables", "1.0.0")).digest
    for origin in (HUB, {"type": "git"}, {"type": "upload"}):
        assert await decision(site, request(origin), digest) == ("allow", "")
    # OpenClaw's own trial.
    assert (await decision(site, request({"type": "doctor"}), None))[0] == "allow"


async def test_other_files_are_blocked_with_a_sentence(site: Site) -> None:
    await site.install("tide-tables")
    digest = (await site.row("tide-tables", "1.0.0")).digest
    for asked, given, says in (
        (request(HUB), "sha256:" + "0" * 64, "not those of version 1.0.0"),
        (request({"type": "git"}), "sha256:" + "0" * 64, "has not vetted these files"),
        (request({**HUB, "slug": "coin-helper"}), digest, "malicious"),
        (request({**HUB, "version": "9.9.9"}), digest, "no such skill or version"),
        (request({**HUB, "slug": "../x"}), digest, "no name of a skill"),
        (request(HUB), None, "not told what"),
        (request(HUB, targetType="plugin"), digest, "no plugins"),
        (request(HUB, protocolVersion=2), digest, "does not know this way"),
        ("nonsense", digest, "does not know this way"),
    ):
        verdict, reason = await decision(site, asked, given)
        assert (verdict, says in reason) == ("block", True), (asked, reason)


async def test_what_is_recalled_is_blocked_however_it_comes(site: Site) -> None:
    await site.install("tide-tables")
    digest = (await site.row("tide-tables", "1.0.0")).digest
    await site.mirror.recall(SkillName("samples", "tide-tables"), None, "It lies.")
    for origin in (HUB, {"type": "git"}):
        assert (await decision(site, request(origin), digest))[0] == "block"


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(garbage=True)])
async def test_while_nothing_can_be_told_it_is_blocked(site: Site, fault: Fault) -> None:
    site.registry.faults["*"] = fault
    verdict, reason = await decision(site, request(HUB), "sha256:" + "0" * 64)
    assert (verdict, "try again" in reason) == ("block", True)


async def test_what_is_no_json_is_blocked(site: Site) -> None:
    async with site.instance() as client:
        answer = await client.post("/policy", content=b"[")
    assert (answer.status_code, answer.json()["decision"]) == (200, "block")


async def hold(site: Site, version: str, wished: dict[str, Any] | None = None) -> None:
    """The instance has this version of the city weather; with words, its person wished for it so."""
    async with site.database.write() as session:
        instance = await session.get_one(Instance, INSTANCE)
        row = await session.get_one(SkillVersion, ("samples", "city-weather", version))
        reference = Reference(SkillName("samples", "city-weather"), version)
        await locks.settle(session, INSTANCE, reference, str(row.digest))
        if wished:
            session.add(user := User(telegram_id=7, created_at=now()))
            await session.flush()
            instance.user_id = user.id
            key = {"user_id": user.id, "owner": "samples", "slug": "city-weather"}
            session.add(SkillWish(**key, source=SkillSource.PERSON, asked_at=now(), **wished))


@pytest.mark.parametrize(
    ("wished", "expected"),
    [
        ({}, "block"),
        ({"policy": SkillPolicy.LATEST}, "block"),
        ({"policy": SkillPolicy.LATEST, "approved": "1.0.0"}, "block"),
        ({"policy": SkillPolicy.LATEST, "approved": "1.1.0"}, "allow"),
        ({"policy": SkillPolicy.PIN, "version": "1.0.0"}, "block"),
        ({"policy": SkillPolicy.PIN, "version": "1.1.0"}, "allow"),
    ],
)
async def test_a_version_that_asks_for_more_waits_for_its_person(
    site: Site, wished: dict[str, Any], expected: str
) -> None:
    for version in ("1.0.0", "1.1.0"):
        await site.download("city-weather", version)
    await hold(site, "1.0.0", wished)
    digest = (await site.row("city-weather", "1.1.0")).digest
    update = {"type": "clawhub", "slug": "city-weather", "ownerHandle": "samples", "version": "1.1.0"}
    for origin in (update, {"type": "upload"}):
        verdict, reason = await decision(site, request(origin), digest)
        assert (verdict, "in the chat" in reason) == (expected, expected == "block"), reason


async def test_a_version_that_asks_for_no_more_and_a_first_one_need_nobody(site: Site) -> None:
    for version in ("1.0.0", "1.1.0"):
        await site.download("city-weather", version)
    for version in ("1.1.0", "1.0.0"):
        origin = {"type": "clawhub", "slug": "city-weather", "ownerHandle": "samples", "version": version}
        digest = (await site.row("city-weather", version)).digest
        assert await decision(site, request(origin), digest) == ("allow", "")
        await hold(site, "1.1.0")


async def test_what_the_plan_names_may_come_without_its_person(make_site: MakeSite, tmp_path: Path) -> None:
    sets = tmp_path / "sets.toml"
    sets.write_text('[plans]\nstandard = ["@samples/city-weather@1.1.0"]\n')
    async with make_site(skill_sets=sets) as site:
        for version in ("1.0.0", "1.1.0"):
            await site.download("city-weather", version)
        await hold(site, "1.0.0")
        origin = {"type": "clawhub", "slug": "city-weather", "ownerHandle": "samples", "version": "1.1.0"}
        digest = (await site.row("city-weather", "1.1.0")).digest
        assert await decision(site, request(origin), digest) == ("allow", "")
