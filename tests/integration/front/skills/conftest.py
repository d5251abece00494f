"""A mirror on the bridge with an instance that asks it, and a stand-in registry behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from bot.front.context import FrontContext
from bot.front.skills import Mirror, router
from bot.settings import Settings
from bot.skills import locks
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import AuditEntry, Instance, Skill, SkillLock, SkillVersion

INSTANCE, OTHER = "u-aaaaaaaaaa", "u-bbbbbbbbbb"


@dataclass
class Site:
    """What instances and the operator see of skills."""

    registry: Registry
    registry_url: str
    mirror: Mirror
    url: str
    database: Database

    def instance(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that calls from an address."""
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return httpx.AsyncClient(base_url=self.url + "/skills", transport=transport, timeout=60)

    async def get(self, route: str, /, address: str = "127.0.0.1", **params: str) -> httpx.Response:
        """One request of an instance's."""
        async with self.instance(address) as client:
            return await client.get(route, params=params)

    async def install(self, slug: str, owner: str = "samples") -> httpx.Response:
        """Ask where the newest version of a skill is."""
        return await self.get(f"/api/v1/skills/{slug}/install", ownerHandle=owner)

    async def download(
        self, slug: str, version: str, owner: str = "samples", address: str = "127.0.0.1"
    ) -> httpx.Response:
        """Ask for an archive."""
        return await self.get("/api/v1/download", address, slug=slug, ownerHandle=owner, version=version)

    async def row(self, slug: str, version: str, owner: str = "samples") -> SkillVersion:
        """What is known of a version."""
        async with self.database.read() as session:
            return await session.get_one(SkillVersion, (owner, slug, version))

    async def locks(self, instance_id: str = INSTANCE) -> list[SkillLock]:
        """What an instance has."""
        async with self.database.read() as session:
            return await locks.of_instance(session, instance_id)

    async def audited(self, action: str) -> list[AuditEntry]:
        """What was noted for the operator."""
        async with self.database.read() as session:
            return list(await session.scalars(select(AuditEntry).where(AuditEntry.action == action)))

    async def hours_pass(self) -> None:
        """What was known of skills and verdicts is old by now."""
        async with self.database.write() as session:
            await session.execute(update(Skill).values(seen_at=0.0))
            await session.execute(update(SkillVersion).values(checked_at=0.0))
        self.mirror.ask_again()


MakeSite = Callable[..., Any]


@pytest.fixture
def make_site(
    database: Database,
    make_settings: Callable[..., Settings],
    make_context: Callable[[Settings], FrontContext],
    http: httpx.AsyncClient,
) -> MakeSite:
    """Serve `/skills` with settings of the test's own, to two instances at 127.0.0.1 and 127.0.0.2."""

    @asynccontextmanager
    async def make(**changes: Any) -> AsyncIterator[Site]:
        async with database.write() as session:
            for instance_id, address in ((INSTANCE, "127.0.0.1"), (OTHER, "127.0.0.2")):
                session.add(
                    Instance(id=instance_id, plan="standard", address=address, image="sha256:0", created_at=now())
                )
        registry = Registry(samples())
        async with running(registry_app(registry)) as registry_url:
            context = make_context(make_settings(**{"skills_url": registry_url, **changes}))
            mirror = Mirror(context.settings, database, http)
            app = FastAPI()
            app.include_router(router(context, mirror))
            async with running(app) as url:
                yield Site(registry, registry_url, mirror, url, database)
            await mirror.close()

    return make


@pytest.fixture
async def site(make_site: MakeSite) -> AsyncIterator[Site]:
    """One with nothing special."""
    async with make_site() as site:
        yield site
