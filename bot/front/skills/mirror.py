"""Pull-through: what instances ask for is fetched from the registry once, vetted, kept, and served to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zipfile import ZipFile

import httpx
import structlog
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from bot.front import metrics
from bot.front.skills.allowances import Allowances, asking
from bot.front.skills.errors import Ambiguous, Forbidden, NotThere, SkillError, TakenBack, Unavailable
from bot.front.skills.flights import Flights
from bot.front.skills.intake import Intake, number
from bot.front.skills.keeping import Keeping
from bot.front.skills.recent import Recent
from bot.front.skills.standing import newest_kept, reference_of, standing, taken_back
from bot.front.skills.turning import Change, check_again
from bot.front.skills.upstream import Upstream
from bot.settings import Settings
from bot.skills import locks, recalls
from bot.skills.names import BadName, Reference, SkillName, checked_version, skill_name
from bot.skills.recalls import Recalled
from bot.skills.shelf import Shelf
from bot.store import Database, now
from bot.store.tables import Skill, SkillOrigin, SkillVersion

_log = structlog.get_logger(__name__)

#: Seconds for which what the registry says of a skill is not asked again.
FRESH = 60.0
#: Seconds for which a search is not repeated, and how many searches and how many names are remembered.
_SAME_SEARCH = 30.0
_SEARCHES = 64
_NAMES = 4096
#: Requests to the registry that vetting a version costs: its verdict, its files, its archive.
_VETTING = 3

Result = TypeVar("Result")


class Mirror:
    """One for a process. Methods raise :class:`~bot.front.skills.errors.SkillError` where the answer is no."""

    def __init__(self, settings: Settings, database: Database, http: httpx.AsyncClient) -> None:
        self.database = database
        self.upstream = Upstream(settings.skills_url, http) if settings.skills_url else None
        self.keeping = Keeping(Shelf(settings.state), database, settings.skills_store_mib * 2**20)
        self._flights = Flights()
        self._allowances = Allowances()
        self._searches: Recent[dict[str, Any]] = Recent(_SAME_SEARCH, _SEARCHES)
        #: Whose a slug is, for who names no publisher; and what the registry does not have, by what was asked for.
        self._whose: Recent[str] = Recent(FRESH, _NAMES)
        self._missing: Recent[NotThere | Ambiguous] = Recent(FRESH, _NAMES)
        self._intake = Intake(self.upstream, database, self.keeping) if self.upstream else None

    async def close(self) -> None:
        """End what is under way; nothing half done stays."""
        await self._flights.close()

    def ask_again(self) -> None:
        """Nothing that the registry said lately holds, no pause either."""
        self._searches.clear()
        self._whose.clear()
        self._missing.clear()
        if self.upstream is not None:
            self.upstream.ask_again()

    @property
    def registry(self) -> Upstream:
        """The registry; raises where the operator wants no skills."""
        if self.upstream is None:
            raise Forbidden("Zaki's operator has switched skills off.")
        return self.upstream

    async def skill(self, slug: str, owner: str | None) -> Skill:
        """The skill, from the registry, or from the store while that is away; `owner` None: whoever has the name."""
        known = await self._known(slug, owner)
        whose = owner or self._whose.get(slug)
        fresh = next((row for row in known if row.owner == whose and row.seen_at > now() - FRESH), None)
        if fresh is not None:
            return fresh
        try:
            return await self._once(("skill", owner, slug), 1, lambda: self._ask_for(slug, owner))
        except Unavailable:
            if len(known) > 1:
                names = ", ".join(f"@{row.owner}/{row.slug}" for row in known)
                raise Ambiguous(f"Several publishers have a skill of this name: {names}.") from None
            if not known:
                raise
            return known[0]

    async def version(self, reference: Reference) -> SkillVersion:
        """A version that may be served, fetched and vetted where that was not done yet."""
        async with self.database.read() as session:
            row = (await standing(session, reference)).servable()
        return row if row is not None else await self.vet(reference)

    async def vet(self, reference: Reference) -> SkillVersion:
        """Fetch a version and vet it, whether or not that was done before; its row where it passed."""
        intake = self._intake
        if intake is None:
            raise Forbidden("Zaki's operator has switched skills off.")

        async def work() -> SkillVersion:
            return await intake.vet(reference, await self.skill(reference.name.slug, reference.name.owner))

        return await self._once(("version", reference), _VETTING, work)

    async def search(self, path: str, params: Mapping[str, str | None]) -> dict[str, Any]:
        """What the registry answers to a question that names no skill, or has answered in the last half minute."""
        key = ("search", path, *sorted(params.items()))
        answer = self._searches.get(key)
        if answer is None:
            answer = await self._once(key, 1, lambda: self.registry.get(path, params))
            self._searches.put(key, answer)
        return answer

    async def latest(self, skill: Skill) -> SkillVersion:
        """The registry's newest version, or the newest that is kept where that one may not be served."""
        name = SkillName(skill.owner, skill.slug)
        try:
            if skill.latest is None:
                raise NotThere("It has no version that can be installed.")
            return await self.version(Reference(name, skill.latest))
        except SkillError as error:
            async with self.database.read() as session:
                older = await newest_kept(session, name)
            if older is None:
                raise
            _log.info("an older version is served", skill=str(name), version=older.version, because=error.sentence)
            return older

    async def pick(self, skill: Skill, version: str | None, tag: str | None) -> SkillVersion:
        """The version that a request names; by default, and for the tag `latest`, the newest."""
        if version is not None:
            return await self.version(Reference(SkillName(skill.owner, skill.slug), checked_version(version)))
        if tag not in (None, "latest"):
            raise NotThere("Zaki knows the tag latest only; ask for a version.")
        return await self.latest(skill)

    async def versions(self, name: SkillName) -> list[SkillVersion]:
        """Every version that was vetted, the newest first."""
        query = select(SkillVersion).where(SkillVersion.owner == name.owner, SkillVersion.slug == name.slug)
        async with self.database.read() as session:
            return list(await session.scalars(query.order_by(SkillVersion.published_at.desc())))

    async def archive(self, row: SkillVersion, instance_id: str) -> Path:
        """The archive of a version for an instance, which from now on counts as having it."""
        reference = reference_of(row)
        path = await self._find(row)
        async with self.database.write() as session:
            await locks.note(session, instance_id, reference, str(row.digest), SkillOrigin.DOWNLOAD)
            mine = update(SkillVersion).where(SkillVersion.owner == row.owner, SkillVersion.slug == row.slug)
            await session.execute(mine.where(SkillVersion.version == row.version).values(used_at=now()))
            recall = await recalls.in_force(session, reference)
        if recall is not None:
            raise TakenBack(taken_back(reference, recall))
        return path

    async def file(self, row: SkillVersion, path: str) -> bytes:
        """One file of a version."""
        if path not in {str(entry["path"]) for entry in row.files}:
            raise NotThere("It has no such file.")
        archive = await self._find(row)

        def read() -> bytes:
            with ZipFile(archive) as opened:
                return opened.read(path)

        return await asyncio.to_thread(read)

    async def recall(self, name: SkillName, version: str | None, reason: str) -> Recalled:
        """The operator's recall: no longer served when this returns, and its archives gone."""
        async with self.database.write() as session:
            done = await recalls.recall(session, name, version, reason)
        await self.keeping.discard(done.archives)
        metrics.SKILL_RECALLS.inc()
        return done

    async def check_again(self) -> list[Change]:
        """Ask the registry about everything that is served; see :func:`bot.front.skills.turning.check_again`."""
        return await check_again(self.registry.first, self.database, self.keeping)

    async def _known(self, slug: str, owner: str | None) -> Sequence[Skill]:
        query = select(Skill).where(Skill.slug == slug, Skill.gone_at.is_(None))
        if owner is not None:
            query = query.where(Skill.owner == owner)
        async with self.database.read() as session:
            return list(await session.scalars(query))

    async def _once(self, key: Hashable, requests: int, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do once what many may ask for at a time; whoever asks first pays, nobody for what was not there lately."""
        missing = self._missing.get(key)
        if missing is not None:
            raise type(missing)(missing.sentence)
        if not self._flights.under_way(key):
            self._allowances.take(requests)
        try:
            with asking(None):
                return await self._flights.once(key, work)
        except (NotThere, Ambiguous) as error:
            self._missing.put(key, error)
            raise

    async def _ask_for(self, slug: str, owner: str | None) -> Skill:
        try:
            answer = await self.registry.get(f"/api/v1/skills/{quote(slug, safe='')}", {"ownerHandle": owner})
            found = _read_skill(answer, owner)
        except (NotThere, TakenBack):
            if owner is not None:
                async with self.database.write() as session:
                    row = await session.get(Skill, (owner, slug))
                    if row is not None and row.gone_at is None:
                        row.gone_at = now()
            raise
        async with self.database.write() as session:
            # Another process may learn of it at the same moment.
            values = {column.name: getattr(found, column.name) for column in Skill.__table__.columns}
            insert = sqlite.insert if self.database.sqlite else postgresql.insert
            statement = insert(Skill).values(**values)
            await session.execute(statement.on_conflict_do_update(index_elements=["owner", "slug"], set_=values))
        if owner is None:
            self._whose.put(slug, found.owner)
        return found

    async def _find(self, row: SkillVersion) -> Path:
        try:
            return await self.keeping.find(str(row.archive))
        except FileNotFoundError:
            # Somebody tidied up the folder, or the room went to others meanwhile.
            fetched = await self.vet(reference_of(row))
            return await self.keeping.find(str(fetched.archive))


def _read_skill(answer: dict[str, Any], owner: str | None) -> Skill:
    skill, publisher, latest = answer.get("skill"), answer.get("owner"), answer.get("latestVersion")
    if not isinstance(skill, dict):
        raise NotThere("ClawHub has no such skill.")
    handle = publisher.get("handle") if isinstance(publisher, dict) else None
    try:
        name = skill_name(str(handle or owner or ""), str(skill.get("slug") or ""))
        newest = latest.get("version") if isinstance(latest, dict) else None
        version = checked_version(newest) if isinstance(newest, str) else None
    except BadName:
        raise Forbidden("ClawHub has it under a name that could be taken for another, or for a path.") from None
    if owner is not None and name.owner != owner:
        raise NotThere(f"ClawHub has no such skill of @{owner}; @{name.owner} has one.")
    return Skill(
        owner=name.owner,
        slug=name.slug,
        display_name=str(skill.get("displayName") or name.slug)[:200],
        summary=str(skill.get("summary") or skill.get("description") or "")[:1000],
        latest=version,
        published_at=number(skill.get("createdAt")),
        updated_at=number(skill.get("updatedAt")),
        seen_at=now(),
        gone_at=None,
    )
