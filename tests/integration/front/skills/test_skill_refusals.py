"""What the mirror does not do, and for whom."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from sqlalchemy import update

from bot.skills import rules
from bot.standins.registry import Fault
from bot.store.tables import Instance, SkillEffect
from tests.integration.front.skills.conftest import INSTANCE, MakeSite, Site

#: One database will do here.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_nobody_but_instances_is_served(site: Site) -> None:
    for path in ("/api/v1/search", "/.well-known/clawhub.json", "/api/v1/packages"):
        answer = await site.get(path, "127.0.0.3", q="weather")
        assert (answer.status_code, "for Zaki's instances" in answer.text) == (401, True)
    async with site.instance("127.0.0.3") as client:
        assert (await client.post("/policy", json={})).status_code == 401
    assert site.registry.requests.total() == 0


async def test_who_was_given_the_address_of_another_is_another(site: Site) -> None:
    async with site.database.write() as session:
        await session.execute(update(Instance).where(Instance.id == INSTANCE).values(address=None))
    assert (await site.install("tide-tables")).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/packages", "/api/v1/packages/x", "/api/v1/packages/x/versions/1/artifact/download",
        "/api/v1/code-plugins", "/api/v1/bundle-plugins", "/api/v1/skills-sh/a/b/c/install", "/api/npm/x",
        "/a/b/zip/0123456789", "/api/v1/whoami", "/api/download",
    ],
)  # fmt: skip
async def test_plugins_packages_and_githubs_archives_are_refused(site: Site, path: str) -> None:
    answer = await site.get(path)
    assert (answer.status_code, "no plugins or packages" in answer.text) == (403, True)
    assert site.registry.requests.total() == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_is_published(site: Site, method: str) -> None:
    async with site.instance() as client:
        for path in ("/api/v1/skills", "/api/v1/skills/x", "/api/v1/stars/x", "/api/cli/publish"):
            assert (await client.request(method, path)).status_code in (403, 405)
    assert site.registry.requests.total() == 0


async def test_a_forced_install_is_refused(site: Site) -> None:
    forced = await site.get("/api/v1/skills/tide-tables/install", ownerHandle="samples", forceInstall="1")
    assert (forced.status_code, forced.json()["ok"]) == (403, False)
    assert "--force-install" in forced.json()["message"]
    other = await site.get("/api/v1/skills/x/install", reference="skills-sh:a/b/x")
    assert (other.status_code, other.json()["ok"]) == (403, False)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/api/v1/download", {"slug": "../../etc/passwd", "ownerHandle": "samples", "version": "1.0.0"}),
        ("/api/v1/download", {"slug": "x", "ownerHandle": "../x", "version": "1.0.0"}),
        ("/api/v1/download", {"slug": "x", "ownerHandle": "samples", "version": "../1"}),
        ("/api/v1/download", {}),
        ("/api/v1/skills/..%2f..%2fadmin", {}),
        ("/api/v1/skills/Weather", {}),
        ("/api/v1/search", {}),
        ("/api/v1/resolve", {"hash": "x"}),
    ],
)
async def test_odd_names_reach_nobody(site: Site, path: str, params: dict[str, str]) -> None:
    assert (await site.get(path, **params)).status_code in (400, 404)
    assert site.registry.requests.total() == 0


async def test_an_instance_has_so_many_requests_at_a_time_and_the_others_theirs(site: Site) -> None:
    site.registry.faults["*"] = Fault(delay_ms=500)
    async with site.instance() as client:
        asked = [client.get("/api/v1/search", params={"q": "x"}) for _ in range(20)]
        other = asyncio.create_task(site.get("/api/v1/search", "127.0.0.2", q="x"))
        answers = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert answers.count(429) == 4
    assert (await other).status_code == 200


async def test_verdicts_answer_for_each_item_and_nothing_more(site: Site) -> None:
    items = [
        {"slug": "tide-tables", "ownerHandle": "samples", "version": "1.0.0"},
        {"slug": "coin-helper", "ownerHandle": "samples", "version": "1.0.0"},
        {"slug": "tide-tables", "ownerHandle": "samples", "version": "9.9.9"},
        {"slug": "tide-tables", "ownerHandle": "nobody", "version": "1.0.0"},
        {"slug": "..", "version": 7},
    ]
    async with site.instance() as client:
        answer = await client.post("/api/v1/skills/-/security-verdicts", json={"items": items})
        found = answer.json()["items"]
        too_many = await client.post("/api/v1/skills/-/security-verdicts", json={"items": items * 21})
        broken = await client.post("/api/v1/skills/-/security-verdicts", content=b"{")
        large = await client.post("/api/v1/skills/-/security-verdicts", content=bytes(600_000))
    assert [item["ok"] for item in found] == [True, False, False, False, False]
    assert found[0]["publisherHandle"] == "samples"
    assert found[1]["reasons"] == ["zaki.blocked"]
    assert "malicious" in found[1]["overview"]
    assert [answer.status_code for answer in (too_many, broken, large)] == [400, 400, 400]


async def test_rules_of_the_operator_hold_at_once_the_narrowest_first(site: Site) -> None:
    async def rule(about: str, effect: SkillEffect) -> None:
        async with site.database.write() as session:
            await rules.set_rule(session, rules.scope(about), effect, "as agreed")

    assert (await site.install("tide-tables")).status_code == 200
    await rule("*", SkillEffect.DENY)
    answer = await site.install("tide-tables")
    assert "does not allow @samples/tide-tables@1.0.0: as agreed" in answer.json()["message"]
    assert (await site.download("tide-tables", "1.0.0")).status_code == 403
    assert (await site.get("/api/v1/search", q="tide")).json()["results"] == []
    await rule("@samples/tide-tables", SkillEffect.ALLOW)
    assert (await site.download("tide-tables", "1.0.0")).status_code == 200
    await rule("@samples/tide-tables@1.0.0", SkillEffect.DENY)
    assert (await site.download("tide-tables", "1.0.0")).status_code == 403
    assert len(await site.audited("skill.deny")) == 2


async def test_the_operator_overrules_judgements_and_nothing_else(site: Site) -> None:
    async with site.database.write() as session:
        await rules.set_rule(session, rules.scope("@samples"), SkillEffect.ALLOW, "all mine")
    for slug in ("page-grabber", "githubb", "quick-setup"):
        assert (await site.install(slug)).status_code == 200, slug
    for slug in ("coin-helper", "odd-traversal", "odd-head"):
        assert (await site.install(slug)).status_code == 403, slug
    async with site.database.write() as session:
        await rules.remove_rule(session, rules.scope("@samples"))
    for slug in ("page-grabber", "githubb", "quick-setup"):
        assert (await site.install(slug)).status_code == 403, slug


async def test_without_a_registry_there_are_no_skills(make_site: MakeSite) -> None:
    async with make_site(skills_url="") as site:
        for path in ("/api/v1/search", "/api/v1/trending", "/api/v1/skills"):
            answer: httpx.Response = await site.get(path, q="x")
            assert (answer.status_code, "switched skills off" in answer.text) == (403, True)
        assert "switched skills off" in (await site.install("tide-tables")).json()["message"]
