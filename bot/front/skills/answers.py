"""ClawHub's answers, made of our own rows: nothing of the registry's is passed on unread.

Shapes: ClawHub's docs/http-api.md, the schemas of clawhub 0.23.3, and what openclaw 2026.9.6 reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from bot.front.skills.intake import number
from bot.front.skills.standing import reference_of, refusal
from bot.skills.names import Reference
from bot.store.tables import Skill, SkillVerdict, SkillVersion

#: What the install routes answer where the archive may not be had; the other reasons are GitHub's.
_NO_ARCHIVE = "archive_version_missing"
_UNKNOWN_SECURITY = {"status": "unknown", "passed": False}


def well_known(base: str) -> dict[str, Any]:
    """Where the API is; `base` is the mirror's URL as the caller reaches it."""
    return {"apiBase": base, "authBase": base}


def skill_item(skill: Skill, latest: SkillVersion | None) -> dict[str, Any]:
    """A skill in a list."""
    version = latest.version if latest is not None else skill.latest
    item: dict[str, Any] = {
        "slug": skill.slug,
        "displayName": skill.display_name,
        "summary": skill.summary,
        "tags": {"latest": version} if version else {},
        "stats": {},
        "createdAt": skill.published_at,
        "updatedAt": skill.updated_at,
    }
    if latest is not None:
        item["latestVersion"] = _version_item(latest)
    return item


def skill_detail(skill: Skill, latest: SkillVersion) -> dict[str, Any]:
    """`GET /skills/{slug}`; without `moderation`, whose presence means flagged."""
    item = skill_item(skill, latest)
    return {
        "skill": item,
        "latestVersion": item.pop("latestVersion"),
        "metadata": None,
        "owner": {"handle": skill.owner, "displayName": skill.owner, "image": None},
    }


def version_list(rows: Iterable[SkillVersion]) -> dict[str, Any]:
    """`GET /skills/{slug}/versions`."""
    return {"items": [_version_item(row) for row in rows], "nextCursor": None}


def version_detail(skill: Skill, row: SkillVersion) -> dict[str, Any]:
    """`GET /skills/{slug}/versions/{version}`."""
    return {
        "version": {**_version_item(row), "files": row.files, "security": _security(row)},
        "skill": {"slug": skill.slug, "displayName": skill.display_name},
        "owner": {"handle": skill.owner},
    }


def install(base: str, row: SkillVersion) -> dict[str, Any]:
    """`GET /skills/{slug}/install`: the archive is had from here."""
    query = urlencode({"slug": row.slug, "ownerHandle": row.owner, "version": row.version})
    archive = {"version": row.version, "downloadUrl": f"{base}/api/v1/download?{query}"}
    return {"ok": True, "slug": row.slug, "installKind": "archive", "archive": archive}


def no_install(slug: str, status: int, sentence: str) -> dict[str, Any]:
    """Why there is nothing to install; both clients show the message."""
    return {"ok": False, "slug": slug, "reason": _NO_ARCHIVE, "message": sentence, "status": status}


def verification(base: str, skill: Skill, row: SkillVersion, resolved: str, tag: str | None) -> dict[str, Any]:
    """`GET /skills/{slug}/verify` of a version that may be served."""
    page = f"{base}/api/v1/skills/{quote(skill.slug)}?{urlencode({'ownerHandle': skill.owner})}"
    card = f"{base}/api/v1/skills/{quote(skill.slug)}/card?" + urlencode(
        {"ownerHandle": skill.owner, "version": row.version}
    )
    return {
        "schema": "clawhub.skill.verify.v1",
        "ok": True,
        "decision": "pass",
        "reasons": [],
        "slug": skill.slug,
        "displayName": skill.display_name,
        "pageUrl": page,
        "publisherHandle": skill.owner,
        "publisherDisplayName": skill.owner,
        "publisherProfileUrl": None,
        "version": row.version,
        "resolvedFrom": resolved,
        "tag": tag,
        "createdAt": row.published_at,
        "card": {"available": True, "url": card},
        "artifact": {"sourceFingerprint": row.fingerprint, "sha256": row.archive, "fileTreeSha256": row.digest},
        "provenance": None,
        "security": _security(row),
        "signature": {"status": "unsigned"},
    }


def verdict(base: str, reference: Reference, row: SkillVersion | None, sentence: str | None) -> dict[str, Any]:
    """One item of `POST /skills/-/security-verdicts`; `sentence`: why it is not served."""
    name = reference.name
    page = f"{base}/api/v1/skills/{quote(name.slug)}?{urlencode({'ownerHandle': name.owner})}"
    item: dict[str, Any] = {
        "requestedSlug": name.slug,
        "requestedOwnerHandle": name.owner,
        "requestedVersion": reference.version,
        "slug": name.slug,
        "version": reference.version,
        "displayName": name.slug,
        "publisherHandle": name.owner,
        "publisherDisplayName": name.owner,
        "skillUrl": page,
        "securityAuditUrl": f"{page}&version={quote(reference.version)}",
    }
    if sentence is not None:
        # `.blocked` is what OpenClaw does not go on after; other failures it only shows.
        security = {"status": "malicious", "passed": False}
        return {
            **item, "ok": False, "decision": "fail", "reasons": ["zaki.blocked"],
            "overview": sentence, "security": security,
        }  # fmt: skip
    assert row is not None  # noqa: S101 - one of both is given
    return {
        **item,
        "ok": True,
        "decision": "pass",
        "reasons": [],
        "createdAt": row.published_at,
        "checkedAt": round(row.checked_at * 1000),
        "overview": overview(row),
        "security": _security(row),
    }


def unknown_verdict(item: Mapping[str, Any], code: str, sentence: str) -> dict[str, Any]:
    """An item that names no version, or one about which nothing can be said now."""
    return {
        "ok": False,
        "decision": "fail",
        "reasons": [code],
        "requestedSlug": item.get("slug"),
        "requestedOwnerHandle": item.get("ownerHandle"),
        "requestedVersion": item.get("version"),
        "slug": None,
        "version": None,
        "publisherHandle": None,
        "security": None,
        "error": {"code": code, "message": sentence},
    }


def resolved(match: SkillVersion | None, latest: SkillVersion) -> dict[str, Any]:
    """`GET /resolve`: which version a folder is."""
    return {
        "slug": latest.slug,
        "match": {"version": match.version} if match is not None else None,
        "latestVersion": {"version": latest.version},
    }


def result(owner: str | None, item: Mapping[str, Any], score: float, note: str = "") -> dict[str, Any]:
    """One row of a search or of the trending list, with the few fields that a client shows."""
    slug = str(item.get("slug"))
    summary = str(item.get("summary") or "")[:1000]
    row: dict[str, Any] = {
        "score": score,
        "source": "clawhub",
        "slug": slug,
        "displayName": str(item.get("displayName") or slug)[:200],
        "summary": f"{note} {summary}".strip(),
        "version": item.get("version") if isinstance(item.get("version"), str) else None,
        "updatedAt": number(item.get("updatedAt")),
        "downloads": number(item.get("downloads")),
    }
    if owner is not None:
        row["ownerHandle"] = owner
        row["owner"] = {"handle": owner, "displayName": owner}
        row["publisher"] = {
            "kind": "user", "handle": owner, "displayName": owner, "image": None, "official": False,
        }  # fmt: skip
        row["install"] = {"kind": "clawhub", "reference": f"@{owner}/{slug}", "sourceUrl": None}
    return row


def card(row: SkillVersion) -> str:
    """What Zaki knows of a version, as Markdown."""
    lines = [f"# {reference_of(row)}", "", overview(row), "", "## What it asks for", ""]
    lines += [f"- {_KINDS[kind]}: {', '.join(words)}" for kind, words in sorted(row.needs.items()) if kind in _KINDS]
    if not row.needs:
        lines.append("Nothing.")
    overruled = [str(reason["says"]) for reason in row.reasons if reason["overruled"]]
    if overruled:
        lines += ["", "## Overruled by Zaki's operator", "", *(f"- {says}" for says in overruled)]
    lines += ["", "## Files", "", *(f"- `{file['path']}` ({file['size']} bytes)" for file in row.files)]
    lines += ["", f"Digest of the folder: `{row.digest}`", ""]
    return "\n".join(lines)


def moderation(row: SkillVersion) -> dict[str, Any]:
    """`GET /skills/{slug}/moderation`."""
    if row.verdict == SkillVerdict.PASSED:
        return {"moderation": None}
    codes = [str(reason["check"]) for reason in row.reasons]
    return {
        "moderation": {
            "isSuspicious": True,
            "isMalwareBlocked": True,
            "verdict": "malicious",
            "reasonCodes": codes,
            "summary": refusal(row),
            "evidence": [],
        }
    }


def overview(row: SkillVersion) -> str:
    """One paragraph on a version that passed."""
    day = datetime.fromtimestamp(row.vetted_at, UTC).strftime("%d %B %Y")
    files = "one file" if len(row.files) == 1 else f"{len(row.files)} files"
    needs = ", ".join(sorted({*row.needs.get("bins", []), *row.needs.get("env", [])})) or "no program and no secret"
    return f"Vetted by Zaki on {day}: {files}, needing {needs}."


#: How each kind of need is called.
_KINDS = {
    "bins": "programs",
    "any_bins": "one of these programs",
    "env": "environment variables",
    "config": "settings of OpenClaw",
    "os": "operating systems",
    "tools": "tools",
    "installs": "installs",
    "domains": "addresses that its files name",
}


def _version_item(row: SkillVersion) -> dict[str, Any]:
    return {
        "version": row.version,
        "createdAt": row.published_at,
        "changelog": row.changelog,
        "changelogSource": None,
        "license": None,
    }


def _security(row: SkillVersion) -> dict[str, Any]:
    if row.verdict != SkillVerdict.PASSED:
        return _UNKNOWN_SECURITY
    return {"status": "clean", "passed": True, "checkedAt": round(row.checked_at * 1000), "scanner": "zaki"}
