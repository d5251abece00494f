"""The stand-in registry: ClawHub's answers, and faults on request."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from bot.skills.digests import fingerprint
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.serving import running


@dataclass
class Hub:
    """A running registry, and a client of it."""

    registry: Registry
    http: httpx.AsyncClient

    async def json(self, path: str, **params: str) -> dict[str, Any]:
        """A good answer."""
        answer = await self.http.get("/api/v1" + path, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """One with all samples."""
    registry = Registry(samples())
    async with running(registry_app(registry)) as url, httpx.AsyncClient(base_url=url) as http:
        yield Hub(registry, http)


async def test_a_skill_is_found_shown_and_downloaded(hub: Hub) -> None:
    (found,) = (await hub.json("/search", q="tide"))["results"]
    assert found["slug"] == "tide-tables"
    shown = await hub.json("/skills/tide-tables", ownerHandle="samples")
    assert (shown["latestVersion"]["version"], shown["owner"]["handle"]) == ("1.0.0", "samples")
    assert "moderation" not in shown
    version = await hub.json("/skills/tide-tables/versions/1.0.0")
    answer = await hub.http.get("/api/v1/download", params={"slug": "tide-tables"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        hashes = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    listed = {file["path"]: file["sha256"] for file in version["version"]["files"]}
    assert listed.items() <= hashes.items()
    assert set(hashes) - set(listed) == {"_meta.json"}
    assert hub.registry.downloads == {"@samples/tide-tables@1.0.0": 1}
    resolved = await hub.json("/resolve", slug="tide-tables", hash=fingerprint(hashes))
    assert resolved["match"] == {"version": "1.0.0"}


async def test_lists_come_in_pages(hub: Hub) -> None:
    names, cursor = [], "0"
    while cursor:
        page = await hub.json("/skills", limit="5", cursor=cursor)
        names += [item["slug"] for item in page["items"]]
        cursor = page["nextCursor"] or ""
    assert sorted(names) == sorted(skill.slug for skill in samples())
    versions = await hub.json("/skills/meeting-notes/versions")
    assert versions["items"][0]["version"] == "2.0.0"


async def test_what_is_flagged_says_so(hub: Hub) -> None:
    shown = await hub.json("/skills/coin-helper")
    assert shown["moderation"]["isMalwareBlocked"] is True
    assert (await hub.http.get("/api/v1/download?slug=coin-helper")).status_code == 403
    assert (await hub.http.get("/api/v1/skills/coin-helper/install")).status_code == 403
    items = [
        {"slug": slug, "ownerHandle": "samples", "version": "1.0.0"}
        for slug in ("tide-tables", "coin-helper", "page-grabber", "fresh-ideas", "nothing")
    ]
    answer = await hub.http.post("/api/v1/skills/-/security-verdicts", json={"items": items})
    found = answer.json()["items"]
    assert [item["ok"] for item in found] == [True, False, False, False, False]
    assert found[4]["error"]["code"] == "skill_not_found"
    hub.registry.turn("@samples/tide-tables", "1.0.0", "malicious", "scan:malicious")
    answer = await hub.http.post("/api/v1/skills/-/security-verdicts", json={"items": items[:1]})
    assert answer.json()["items"][0]["reasons"] == ["scan:malicious"]


async def test_faults_are_switched_on_and_off_for_one_skill(hub: Hub) -> None:
    path = "/-/faults/@samples/tide-tables"

    async def status(slug: str = "tide-tables") -> httpx.Response:
        return await hub.http.get(f"/api/v1/skills/{slug}")

    await hub.http.put(path, json={"status": 429, "retry_after": 3})
    limited = await status()
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "3")
    assert (await status("unit-converter")).status_code == 200
    await hub.http.put(path, json={"garbage": True})
    assert (await status()).text.startswith("<html>")
    await hub.http.put(path, json={"delay_ms": 120})
    with pytest.raises(httpx.ReadTimeout):
        await hub.http.get("/api/v1/skills/tide-tables", timeout=0.05)
    assert (await status()).status_code == 200
    before = (await hub.http.get("/api/v1/download?slug=tide-tables")).content
    await hub.http.put(path, json={"changed": True})
    assert (await hub.http.get("/api/v1/download?slug=tide-tables")).content != before
    await hub.http.delete(path)
    assert (await hub.http.get("/api/v1/download?slug=tide-tables")).content == before
    for bad, code in ((path, {"status": 7}), ("/-/faults/@samples/never-was", {"status": 500})):
        assert (await hub.http.put(bad, json=code)).status_code in (400, 404)


async def test_what_is_not_there(hub: Hub) -> None:
    for path in ("/skills/never-was", "/skills/tide-tables/versions/9", "/download?slug=never-was"):
        assert (await hub.http.get("/api/v1" + path)).status_code == 404
    hub.registry.remove("@samples/tide-tables")
    assert (await hub.http.get("/api/v1/skills/tide-tables")).status_code == 404
