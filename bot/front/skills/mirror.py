"""Pull-through: what instances ask for is fetched from the registry once, vetted, kept, and served to all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zipfile import ZipFile

import httpx
import structlog
from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.disk import NO_ROOM
from bot.front import metrics
from bot.front.skills import opinions, vetting
from bot.front.skills.archive import GENERATED
from bot.front.skills.errors import Ambiguous, Forbidden, NotThere, SkillError, TakenBack, Unavailable
from bot.front.skills.opinions import Opinion, Standing
from bot.front.skills.upstream import Upstream
from bot.front.skills.vetting import Check, Inspected, Reason
from bot.settings import Settings
from bot.skills import locks, recalls, rules
from bot.skills.names import BadName, Reference, SkillName, checked_version, skill_name
from bot.skills.recalls import Recalled
from bot.skills.shelf import Shelf
from bot.store import Database, now
from bot.store.tables import (
    AuditEntry,
    Skill,
    SkillEffect,
    SkillLock,
    SkillOrigin,
    SkillRecall,
    SkillRule,
    SkillVerdict,
    SkillVersion,
)

_log = structlog.get_logger(__name__)

#: Seconds for which what the registry says of a skill is not asked again.
FRESH = 60.0
#: Seconds after which a version that was refused for a reason that may pass is looked at again.
AGAIN = 600.0
#: Versions that are fetched and vetted at a time.
_VETTING = 2
#: Skills whose names are held for known, the most used first.
_KNOWN = 500
_MIB = 2**20

Result = TypeVar("Result")


class Mirror:
    """One for a process. Methods raise :class:`~bot.front.skills.errors.SkillError` where the answer is no."""

    def __init__(self, settings: Settings, database: Database, http: httpx.AsyncClient) -> None:
        self.database = database
        self.shelf = Shelf(settings.state)
        self.upstream = Upstream(settings.skills_url, http) if settings.skills_url else None
        self._most = settings.skills_store_mib * _MIB
        self._vetting = asyncio.Semaphore(_VETTING)
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}

    async def close(self) -> None:
        """End what is under way; nothing half done stays."""
        for task in list(self._flights.values()):
            task.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    # What the registry says of a skill.

    async def skill(self, slug: str, owner: str | None) -> Skill:
        """The skill, from the registry, or from the store while that is away; `owner` None: whoever has the name."""
        known = await self._known(slug, owner)
        fresh = [row for row in known if row.seen_at > now() - FRESH and row.gone_at is None]
        if owner is not None and fresh:
            return fresh[0]
        try:
            return await self._once(("skill", owner, slug), lambda: self._ask_for(slug, owner))
        except Unavailable:
            there = [row for row in known if row.gone_at is None]
            if len(there) == 1:
                return there[0]
            if there:
                names = ", ".join(f"@{row.owner}/{row.slug}" for row in there)
                raise Ambiguous(f"Several publishers have a skill of this name: {names}.") from None
            raise

    async def _known(self, slug: str, owner: str | None) -> Sequence[Skill]:
        query = select(Skill).where(Skill.slug == slug)
        if owner is not None:
            query = query.where(Skill.owner == owner)
        async with self.database.read() as session:
            return list(await session.scalars(query))

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
            return await session.merge(found)

    # Versions.

    async def version(self, reference: Reference) -> SkillVersion:
        """A version that may be served, fetched and vetted where that was not done yet."""
        row = await self._look(reference)
        if row is not None:
            return row
        return await self._once(("version", reference), lambda: self.vet(reference))

    async def latest(self, skill: Skill) -> SkillVersion:
        """The registry's newest version, or the newest that passed where that one may not be served."""
        name = SkillName(skill.owner, skill.slug)
        try:
            if skill.latest is None:
                raise NotThere("It has no version that can be installed.")
            return await self.version(Reference(name, skill.latest))
        except (Forbidden, TakenBack, NotThere, Unavailable) as error:
            older = await self._newest_kept(name)
            if older is None:
                raise
            _log.info("an older version is served", skill=str(name), version=older.version, because=error.sentence)
            return older

    async def pick(self, skill: Skill, version: str | None, tag: str | None) -> SkillVersion:
        """The version that a request names; by default, and for the tag `latest`, the newest."""
        if version is None:
            if tag not in (None, "latest"):
                raise NotThere("Zaki knows the tag latest only; ask for a version.")
            return await self.latest(skill)
        return await self.version(Reference(SkillName(skill.owner, skill.slug), checked_version(version)))

    async def archive(self, row: SkillVersion, instance_id: str) -> bytes:
        """The archive of a version for an instance, which from now on counts as having it."""
        reference = reference_of(row)
        content = await self._content(row)
        async with self.database.write() as session:
            if await recalls.in_force(session, reference) is not None:
                raise TakenBack(f"{reference} was recalled.")
            await locks.note(session, instance_id, reference, str(row.digest), SkillOrigin.DOWNLOAD)
            kept = await session.get(SkillVersion, (row.owner, row.slug, row.version))
            if kept is not None:
                kept.used_at = now()
        return content

    async def _content(self, row: SkillVersion) -> bytes:
        try:
            return await asyncio.to_thread(self.shelf.read, str(row.archive))
        except FileNotFoundError:
            # Somebody tidied up the folder: the row is right, the file is not there.
            fetched = await self._once(("version", reference_of(row)), lambda: self.vet(reference_of(row)))
            return await asyncio.to_thread(self.shelf.read, str(fetched.archive))

    async def bundle_file(self, row: SkillVersion, path: str) -> bytes:
        """One file of a version."""
        if path not in {str(entry["path"]) for entry in row.files}:
            raise NotThere("It has no such file.")
        content = await self._content(row)
        return await asyncio.to_thread(lambda: ZipFile(BytesIO(content)).read(path))

    async def versions(self, name: SkillName) -> list[SkillVersion]:
        """Every version that was vetted, the newest first."""
        query = select(SkillVersion).where(SkillVersion.owner == name.owner, SkillVersion.slug == name.slug)
        async with self.database.read() as session:
            return list(await session.scalars(query.order_by(SkillVersion.published_at.desc())))

    async def _newest_kept(self, name: SkillName) -> SkillVersion | None:
        for row in await self.versions(name):
            if row.verdict == SkillVerdict.PASSED:
                with contextlib.suppress(SkillError):
                    found = await self._look(reference_of(row))
                    if found is not None:
                        return found
        return None

    async def _look(self, reference: Reference) -> SkillVersion | None:
        """The version's row where it may be served; None: it has to be vetted. Raises where it may not."""
        async with self.database.read() as session:
            row, recalled, rule = await _standing(session, reference)
        _refuse_by_hand(reference, recalled, rule)
        if row is None:
            return None
        allowed = rule is not None and rule.effect == SkillEffect.ALLOW
        if row.verdict == SkillVerdict.PASSED:
            if not allowed and any(reason["overruled"] for reason in row.reasons):
                raise Forbidden(refusal(row))
            return row if row.archive is not None else None
        # A recall that was lifted, a rule that came since, or a reason that may have passed.
        again = row.verdict == SkillVerdict.RECALLED or (rule is not None and rule.made_at > row.vetted_at)
        passing = bool(row.reasons) and all(reason["passing"] for reason in row.reasons)
        if again or (passing and row.checked_at < now() - AGAIN):
            return None
        raise Forbidden(refusal(row))

    # Vetting.

    async def vet(self, reference: Reference) -> SkillVersion:
        """Fetch a version and vet it, whether or not that was done before; its row where it passed."""
        async with self._vetting:
            async with self.database.read() as session:
                before, recalled, rule = await _standing(session, reference)
                known = await _trusted_names(session)
            _refuse_by_hand(reference, recalled, rule)
            allowed = rule is not None and rule.effect == SkillEffect.ALLOW
            skill = await self.skill(reference.name.slug, reference.name.owner)
            opinion = (await opinions.ask(self.registry, [reference]))[reference]
            reasons = vetting.of_registry(opinion)
            reasons += vetting.of_name(reference.name, skill.display_name, known)
            if vetting.refuses(reasons, allowed=allowed):
                return await self._note(reference, opinion, reasons, allowed, None, None, {})
            detail = await self._detail(reference)
            listed = {str(file["path"]): str(file["sha256"]) for file in _listed(detail)}
            path = "/api/v1/download"
            params = {"slug": reference.name.slug, "ownerHandle": reference.name.owner, "version": reference.version}
            first = {str(file["path"]): str(file["sha256"]) for file in before.files} if before else None
            archive = None
            with _disk_told():
                async with self._incoming() as incoming:
                    metrics.SKILL_DOWNLOADS.inc()
                    try:
                        await self.registry.download(path, params, incoming)
                    except Forbidden as forbidden:
                        inspected = Inspected.refused(Reason(Check.ARCHIVE, forbidden.sentence, passing=True))
                    else:
                        inspected = await asyncio.to_thread(vetting.inspect, incoming, listed, first or None)
                reasons += inspected.reasons
                if not vetting.refuses(reasons, allowed=allowed):
                    await self._make_room(len(inspected.packed))
                    archive = await asyncio.to_thread(self.shelf.put, inspected.packed)
            return await self._note(reference, opinion, reasons, allowed, inspected, archive, detail)

    async def check_again(self) -> list[Change]:
        """Ask the registry about every version that is served or that an instance has; what changed.

        A version whose verdict turned bad is recalled. Raises where the registry is away, which changes nothing.
        """
        async with self.database.read() as session:
            having = exists().where(
                SkillLock.owner == SkillVersion.owner,
                SkillLock.slug == SkillVersion.slug,
                SkillLock.version == SkillVersion.version,
            )
            there = or_(
                SkillVersion.verdict == SkillVerdict.PASSED,
                and_(SkillVersion.verdict == SkillVerdict.REFUSED, having),
            )
            rows = list(await session.scalars(select(SkillVersion).where(there).order_by(SkillVersion.checked_at)))
        references = [reference_of(row) for row in rows]
        changes = []
        for first in range(0, len(references), opinions.BATCH):
            found = await opinions.ask(self.registry, references[first : first + opinions.BATCH])
            for reference, opinion in found.items():
                change = await self._judge_again(reference, opinion)
                if change is not None:
                    changes.append(change)
        return changes

    async def _judge_again(self, reference: Reference, opinion: Opinion) -> Change | None:
        reasons = vetting.of_registry(opinion)
        async with self.database.write() as session:
            row, _recalled, rule = await _standing(session, reference)
            if row is None or row.verdict == SkillVerdict.RECALLED:
                return None
            if row.verdict == SkillVerdict.REFUSED and opinion.standing is not Standing.MALICIOUS:
                return None
            row.checked_at, row.upstream = now(), opinion.as_json()
            allowed = rule is not None and rule.effect == SkillEffect.ALLOW
            if not vetting.refuses(reasons, allowed=allowed):
                return None
            change = await self._turn_bad(session, row, opinion, reasons)
        await self._discard(change.archives)
        return change

    async def _turn_bad(
        self, session: AsyncSession, row: SkillVersion, opinion: Opinion, reasons: list[Reason]
    ) -> Change:
        """A version that was served is so no longer."""
        reference = reference_of(row)
        # Who removes a skill may be its author, a moderator, or a scanner still at work: it is not given out any more,
        # and the operator decides about those who have it.
        if opinion.standing in (Standing.GONE, Standing.PENDING):
            having = (
                select(func.count())
                .select_from(SkillLock)
                .where(SkillLock.owner == row.owner, SkillLock.slug == row.slug, SkillLock.version == row.version)
            )
            count = await session.scalar(having) or 0
            row.verdict, row.reasons = SkillVerdict.REFUSED, vetting.as_json(reasons, allowed=False)
            session.add(_audit("skill.withdrawn", f"{reference}: {opinion.says}"))
            return Change(reference, opinion.says, recalled=None, instances=int(count))
        done = await recalls.recall(session, reference.name, reference.version, opinion.says, "verdict")
        row.reasons = vetting.as_json(reasons, allowed=False)
        metrics.SKILL_RECALLS.inc()
        return Change(reference, opinion.says, done, len(done.instances), done.archives)

    async def recall(self, name: SkillName, version: str | None, reason: str) -> Recalled:
        """The operator's recall: no longer served when this returns, and its archives gone."""
        async with self.database.write() as session:
            done = await recalls.recall(session, name, version, reason)
        await self._discard(done.archives)
        metrics.SKILL_RECALLS.inc()
        return done

    async def _note(
        self,
        reference: Reference,
        opinion: Opinion,
        reasons: list[Reason],
        allowed: bool,
        inspected: Inspected | None,
        archive: str | None,
        detail: dict[str, Any],
    ) -> SkillVersion:
        """Write the verdict down; the row where it passed, else raises."""
        refused = vetting.refuses(reasons, allowed=allowed)
        dropped: tuple[str, ...] = ()
        async with self.database.write() as session:
            row, recalled, _rule = await _standing(session, reference)
            name = reference.name
            if row is None:
                row = SkillVersion(owner=name.owner, slug=name.slug, version=reference.version, files=[], needs={})
                session.add(row)
            was_served = row.verdict == SkillVerdict.PASSED
            at = now()
            row.vetted_at = row.checked_at = at
            row.upstream = opinion.as_json()
            row.reasons = vetting.as_json(reasons, allowed=allowed)
            changed = any(reason.check is Check.DIGEST for reason in reasons)
            if inspected is not None and inspected.bundle is not None and not changed:
                bundle = inspected.bundle
                row.digest, row.fingerprint = bundle.digest, bundle.fingerprint
                row.files = [
                    {"path": path, "size": len(content), "sha256": bundle.hashes[path]}
                    for path, content in sorted(bundle.files.items())
                ]
                row.needs = dict(inspected.manifest.needs)
            row.changelog = str(detail.get("changelog") or "")[:4000]
            row.published_at = _number(detail.get("createdAt")) or row.published_at or 0.0
            if recalled is not None:
                # It was recalled while it was looked at.
                row.verdict, row.archive, dropped = SkillVerdict.RECALLED, None, (archive,) if archive else ()
            elif refused:
                session.add(_audit("skill.refused", refusal(row)[:1000]))
                dropped = (row.archive,) if row.archive else ()
                row.verdict, row.archive = SkillVerdict.REFUSED, None
                if was_served and opinion.standing in (Standing.MALICIOUS, Standing.DOUBTFUL):
                    await self._turn_bad(session, row, opinion, reasons)
            else:
                row.verdict, row.archive = SkillVerdict.PASSED, archive
                row.size = len(inspected.packed) if inspected else 0
            await session.flush()
            if dropped:
                shared = await session.scalar(select(func.count()).where(SkillVersion.archive.in_(dropped)))
                dropped = () if shared else dropped
        await self._discard(dropped)
        if recalled is not None:
            raise TakenBack(_taken_back(reference, recalled))
        if refused:
            _log.info("a skill is refused", skill=str(reference), reasons=[reason.says for reason in reasons])
            raise Forbidden(refusal(row))
        return row

    async def _detail(self, reference: Reference) -> dict[str, Any]:
        slug, version = quote(reference.name.slug, safe=""), quote(reference.version, safe="")
        answer = await self.registry.get(
            f"/api/v1/skills/{slug}/versions/{version}", {"ownerHandle": reference.name.owner}
        )
        found = answer.get("version")
        return found if isinstance(found, dict) else {}

    # Room.

    async def _make_room(self, size: int) -> None:
        """Let go of archives that nobody used for long, until `size` bytes more fit."""
        async with self.database.write() as session:
            kept = select(SkillVersion).where(SkillVersion.archive.is_not(None)).order_by(SkillVersion.used_at)
            rows = list(await session.scalars(kept))
            used = sum(row.size for row in rows) + size
            having = set(await locks.counts(session))
            # What an instance has comes last: it may be needed again to put right what was changed there.
            rows.sort(key=lambda row: ((row.owner, row.slug, row.version) in having, row.used_at))
            gone = []
            for row in rows:
                if used <= self._most:
                    break
                used -= row.size
                gone.append(row.archive)
                row.archive = None
            if used > self._most:
                raise Unavailable("Zaki's store of skills is too small for it; ask its operator.", AGAIN)
            still = {row.archive for row in rows if row.archive is not None}
        await self._discard([archive for archive in gone if archive is not None and archive not in still])

    async def _discard(self, archives: Sequence[str]) -> None:
        for archive in archives:
            await asyncio.to_thread(self.shelf.discard, archive)

    @asynccontextmanager
    async def _incoming(self) -> AsyncIterator[Path]:
        held = self.shelf.incoming()
        path = await asyncio.to_thread(held.__enter__)
        try:
            yield path
        finally:
            await asyncio.to_thread(held.__exit__, None, None, None)

    @property
    def registry(self) -> Upstream:
        """The registry; raises where the operator wants no skills."""
        if self.upstream is None:
            raise Forbidden("Zaki's operator has switched skills off.")
        return self.upstream

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        """One flight for everybody who asks meanwhile; it goes on when one of them leaves."""
        task = self._flights.get(key)
        if task is None:

            async def fly() -> Result:
                return await work()

            task = self._flights[key] = asyncio.create_task(fly())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not task.cancelled():
            # Looked at, so that one whose askers all left is no unheard error.
            task.exception()


@dataclass(frozen=True)
class Change:
    """A version that is served no longer since the registry was asked again."""

    reference: Reference
    #: One sentence.
    says: str
    #: None: those who have it keep it.
    recalled: Recalled | None
    #: How many instances have it, or may have.
    instances: int
    archives: tuple[str, ...] = ()


def reference_of(row: SkillVersion) -> Reference:
    """The version that a row is about."""
    return Reference(SkillName(row.owner, row.slug), row.version)


def refusal(row: SkillVersion) -> str:
    """Why a version is not served, for whoever asked for it."""
    says = " ".join(str(reason["says"]) for reason in row.reasons)
    return f"Zaki does not install {reference_of(row)}. {says}".strip()


def _taken_back(reference: Reference, recalled: SkillRecall) -> str:
    return f"{reference} was recalled and must not be used: {recalled.reason}"


def _refuse_by_hand(reference: Reference, recalled: SkillRecall | None, rule: SkillRule | None) -> None:
    if recalled is not None:
        raise TakenBack(_taken_back(reference, recalled))
    if rule is not None and rule.effect == SkillEffect.DENY:
        because = f": {rule.reason}" if rule.reason else "."
        raise Forbidden(f"Zaki's operator does not allow {reference}{because}")


async def _standing(
    session: AsyncSession, reference: Reference
) -> tuple[SkillVersion | None, SkillRecall | None, SkillRule | None]:
    name = reference.name
    row = await session.get(SkillVersion, (name.owner, name.slug, reference.version))
    return row, await recalls.in_force(session, reference), await rules.ruling(session, reference)


async def _trusted_names(session: AsyncSession) -> set[SkillName]:
    """Skills that instances have, the most used first, and those that the operator allows."""
    used = select(SkillLock.owner, SkillLock.slug).group_by(SkillLock.owner, SkillLock.slug)
    rows = await session.execute(used.order_by(func.count().desc()).limit(_KNOWN))
    found = {SkillName(owner, slug) for owner, slug in rows}
    for rule in await rules.all_rules(session):
        if rule.effect == SkillEffect.ALLOW and rule.owner and rule.slug:
            found.add(SkillName(rule.owner, rule.slug))
    return found


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
        published_at=_number(skill.get("createdAt")),
        updated_at=_number(skill.get("updatedAt")),
        seen_at=now(),
        gone_at=None,
    )


def _listed(detail: dict[str, Any]) -> list[dict[str, Any]]:
    files = detail.get("files")
    found = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return [
        file
        for file in found[:5000]
        if isinstance(file.get("path"), str) and isinstance(file.get("sha256"), str) and file["path"] not in GENERATED
    ]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0


def _audit(action: str, detail: str) -> AuditEntry:
    return AuditEntry(at=now(), instance_id=None, action=action, detail=detail)


@contextlib.contextmanager
def _disk_told() -> Iterator[None]:
    """A disk that cannot be written to is Zaki's trouble, told as such."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            _log.error("the disk has no room for a skill")
            raise Unavailable("Zaki's disk has no room for it now; its operator sees that.", 60.0) from None
        _log.error("a skill cannot be kept", error=error.strerror)
        raise Unavailable("Zaki cannot keep it now; its operator sees that.", 60.0) from None
