"""What `security.installPolicy` of an instance is told."""

from __future__ import annotations

from typing import Any

import pytest

from bot.skills.names import SkillName
from bot.standins.registry import Fault
from tests.integration.front.skills.conftest import Site

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
