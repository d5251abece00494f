"""From the registry to the shelf: a version is fetched, vetted, and its verdict written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import structlog
from sqlalchemy import select

from bot.front import metrics
from bot.front.skills import opinions, vetting
from bot.front.skills.errors import Forbidden, NotThere, TakenBack, Unavailable
from bot.front.skills.keeping import Keeping
from bot.front.skills.opinions import Opinion, Standing
from bot.front.skills.standing import audited, refusal, standing, taken_back, trusted_names
from bot.front.skills.turning import turn_bad, turned
from bot.front.skills.upstream import Upstream
from bot.skills.inspection import Inspected, inspect_apart
from bot.skills.inspection.archive import GENERATED
from bot.skills.names import Reference
from bot.skills.reasons import Check, Reason
from bot.store import Database, now
from bot.store.tables import Skill, SkillVerdict, SkillVersion

_log = structlog.get_logger(__name__)

#: Versions that are fetched and vetted at a time; each takes up to 50 MiB of memory.
_AT_ONCE = 2


@dataclass
class _Findings:
    """What came of looking at a version."""

    opinion: Opinion
    allowed: bool
    reasons: list[Reason]
    #: None: it was not fetched.
    inspected: Inspected | None = None
    #: Its archive's name on the shelf.
    archive: str | None = None
    size: int = 0
    #: What the registry says of the version.
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        return vetting.refuses(self.reasons, allowed=self.allowed)


class Intake:
    """One for a mirror."""

    def __init__(self, upstream: Upstream, database: Database, keeping: Keeping) -> None:
        self._upstream = upstream
        self._database = database
        self._keeping = keeping
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def vet(self, reference: Reference, skill: Skill) -> SkillVersion:
        """Fetch and vet a version, whether or not that was done before; its row where it passed, else raises."""
        async with self._room:
            async with self._database.read() as session:
                before = await standing(session, reference)
                known = await trusted_names(session, reference.name)
            before.refuse_by_hand()
            opinion = (await opinions.ask(self._upstream, [reference]))[reference]
            if opinion.standing is Standing.GONE and before.row is None:
                raise NotThere("ClawHub has no such skill or version.")
            served = before.row is not None and before.row.verdict == SkillVerdict.PASSED
            if opinion.standing is Standing.UNCLEAR and served and not before.allowed:
                # An answer that does not hold takes nothing back; the next one may hold.
                raise Unavailable(f"{opinion.says} Try again later.", 60.0)
            reasons = vetting.of_registry(opinion)
            reasons += vetting.of_name(reference.name, skill.display_name, known)
            found = _Findings(opinion, before.allowed, reasons)
            if not found.refused:
                await self._fetch(reference, before.row, found)
            return await self._note(reference, found)

    async def _fetch(self, reference: Reference, before: SkillVersion | None, found: _Findings) -> None:
        name = reference.name
        path = f"/api/v1/skills/{quote(name.slug, safe='')}/versions/{quote(reference.version, safe='')}"
        answer = await self._upstream.get(path, {"ownerHandle": name.owner})
        detail = answer.get("version")
        found.detail = detail if isinstance(detail, dict) else {}
        first = {str(file["path"]): str(file["sha256"]) for file in before.files} if before is not None else {}
        asked = {"slug": name.slug, "ownerHandle": name.owner, "version": reference.version}
        async with self._keeping.incoming() as incoming, self._keeping.incoming() as packed:
            metrics.SKILL_DOWNLOADS.inc()
            try:
                await self._upstream.download("/api/v1/download", asked, incoming)
            except Forbidden as forbidden:
                found.inspected = Inspected([Reason(Check.ARCHIVE, forbidden.sentence, passing=True)])
            else:
                listed = _listed(found.detail)
                found.inspected = await inspect_apart(incoming, packed, listed, first or None)
            found.reasons += found.inspected.reasons
            if not found.refused:
                content = await asyncio.to_thread(packed.read_bytes)
                found.archive, found.size = await self._keeping.put(content), len(content)

    async def _note(self, reference: Reference, found: _Findings) -> SkillVersion:
        name = reference.name
        dropped: set[str] = set()
        async with self._database.write() as session:
            before = await standing(session, reference)
            row = before.row
            if row is None:
                row = SkillVersion(owner=name.owner, slug=name.slug, version=reference.version, files=[], needs={})
                session.add(row)
            was_served, old = row.verdict == SkillVerdict.PASSED, row.archive
            row.vetted_at = row.checked_at = now()
            row.upstream = found.opinion.as_json()
            row.reasons = vetting.as_json(found.reasons, allowed=found.allowed)
            row.changelog = str(found.detail.get("changelog") or "")[:4000]
            row.published_at = number(found.detail.get("createdAt")) or row.published_at or 0.0
            _describe(row, found)
            row.archive = None
            if before.recall is not None:
                # It was recalled while it was looked at.
                row.verdict = SkillVerdict.RECALLED
            elif found.refused:
                row.verdict = SkillVerdict.REFUSED
                session.add(audited("skill.refused", refusal(row)))
                if was_served and turned(found.opinion):
                    await turn_bad(session, row, found.opinion, found.reasons)
            else:
                row.verdict, row.archive = SkillVerdict.PASSED, found.archive
            await session.flush()
            dropped = {one for one in (old, found.archive) if one is not None and one != row.archive}
            if dropped:
                dropped -= set(
                    await session.scalars(select(SkillVersion.archive).where(SkillVersion.archive.in_(dropped)))
                )
        await self._keeping.discard(sorted(dropped))
        if before.recall is not None:
            raise TakenBack(taken_back(reference, before.recall))
        if found.refused:
            says = [reason.says for reason in found.reasons]
            _log.info("a skill is refused", skill=str(reference), reasons=says)
            raise Forbidden(refusal(row))
        return row


def _describe(row: SkillVersion, found: _Findings) -> None:
    """What is in it, unless that is not what it was."""
    inspected = found.inspected
    if inspected is None or inspected.digest is None or any(r.check is Check.DIGEST for r in found.reasons):
        return
    row.digest, row.fingerprint, row.size = inspected.digest, inspected.fingerprint, found.size
    row.files, row.needs = inspected.files, dict(inspected.needs)


def _listed(detail: Mapping[str, Any]) -> dict[str, str]:
    """The files' SHA-256 as the registry lists them, by path, without what it puts in itself."""
    files = detail.get("files")
    found = {}
    for file in files[:5000] if isinstance(files, list) else ():
        if isinstance(file, dict) and isinstance(file.get("path"), str) and isinstance(file.get("sha256"), str):
            found[file["path"]] = file["sha256"].lower()
    return {path: sha256 for path, sha256 in found.items() if path not in GENERATED}


def number(value: object) -> float:
    """A number of the registry's."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0
