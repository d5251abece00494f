"""Newer versions of what instances have are looked for ahead."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from bot.front.skills.renewing import look_for_newer
from bot.standins.registry.faults import Fault
from bot.store.tables import Skill, SkillLock
from tests.integration.front.skills.conftest import MakeSite


async def test_a_newer_version_is_vetted_before_anybody_asks(make_site: MakeSite) -> None:
    async with make_site() as site:
        await site.download("meeting-notes", "1.0.0")
        await site.download("unit-converter", "2.0.1")
        await site.hours_pass()
        # One that is in trouble keeps no other from being looked at.
        site.registry.remove("@samples/city-weather")
        async with site.database.write() as session:
            await session.execute(
                update(SkillLock).where(SkillLock.slug == "unit-converter").values(slug="city-weather")
            )
        assert await look_for_newer(site.mirror, 0.0) == 1
        assert (await site.row("meeting-notes", "2.0.0")).verdict == "passed"


async def test_a_registry_that_is_away_is_not_asked_again_and_again(make_site: MakeSite) -> None:
    async with make_site() as site:
        await site.download("meeting-notes", "1.0.0")
        await site.hours_pass()
        site.registry.faults["*"] = Fault(status=503)
        assert await look_for_newer(site.mirror, 0.0) <= 1


async def test_one_that_breaks_what_reads_it_keeps_no_other_from_being_looked_at(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_site() as site:
        await site.download("city-weather", "1.0.0")
        await site.download("meeting-notes", "1.0.0")
        await site.hours_pass()
        ask = site.mirror.skill

        async def breaks(slug: str, owner: str | None) -> Skill:
            if slug == "city-weather":
                raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
            found: Skill = await ask(slug, owner)
            return found

        monkeypatch.setattr(site.mirror, "skill", breaks)
        assert await look_for_newer(site.mirror, 0.0) == 1
        assert (await site.row("meeting-notes", "2.0.0")).verdict == "passed"
