"""ClawHub's API over a :class:`~bot.standins.registry.registry.Registry`.

Shapes: ClawHub's docs/http-api.md and the schemas of clawhub 0.23.3; both real clients pass against it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from bot.standins.registry.archives import pack
from bot.standins.registry.faults import EVERYTHING, Fault
from bot.standins.registry.registry import Published, Registry, Release

Handler = Callable[[Request], Awaitable[Response]]

_CHANGED = b"\n<!-- something else than yesterday -->\n"


class _Json(JSONResponse):
    """In ASCII, so that characters that no text may have get through, as they do from registries that escape."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


class _Missing(Exception):
    """There is no such thing; the status and the sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def registry_app(registry: Registry) -> Starlette:
    """The API; faults are switched with `PUT /-/faults/NAME` (NAME is `@owner/slug`, or `*` for all) and `DELETE`."""
    served = _Served(registry)
    api = "/api/v1"
    routes = [
        ("/.well-known/clawhub.json", served.well_known),
        (f"{api}/search", served.search),
        (f"{api}/trending", served.trending),
        (f"{api}/resolve", served.resolve),
        (f"{api}/download", served.download),
        (f"{api}/skills", served.list),
        (f"{api}/skills/{{slug}}", served.show),
        (f"{api}/skills/{{slug}}/versions", served.versions),
        (f"{api}/skills/{{slug}}/versions/{{version}}", served.version),
        (f"{api}/skills/{{slug}}/install", served.install),
        (f"{api}/skills/{{slug}}/verify", served.verify),
        (f"{api}/skills/{{slug}}/card", served.card),
        (f"{api}/skills/{{slug}}/file", served.file),
        (f"{api}/skills/{{slug}}/moderation", served.moderation),
    ]
    verdicts = Route(f"{api}/skills/-/security-verdicts", served.guarded(served.verdicts), methods=["POST"])
    faults = Route("/-/faults/{name:path}", served.set_fault, methods=["PUT", "DELETE"])
    return Starlette(routes=[verdicts, faults, *(Route(path, served.guarded(serve)) for path, serve in routes)])


class _Served:
    """A handler for each route."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def guarded(self, handler: Handler) -> Handler:
        """The handler behind the faults of the skill that is asked about."""

        async def serve(request: Request) -> Response:
            self._registry.requests[request.url.path] += 1
            fault = self._registry.fault(self._asked_about(request))
            if fault.delay_ms:
                await asyncio.sleep(fault.delay_ms / 1000)
            if fault.status is not None:
                headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                return PlainTextResponse("It does not work now.", fault.status, headers=headers)
            if fault.garbage:
                return PlainTextResponse("<html><body>Something went wrong\x00</body></html>")
            if fault.answer is not None:
                return _Json(fault.answer)
            try:
                return await handler(request)
            except _Missing as missing:
                return PlainTextResponse(str(missing), missing.status)

        return serve

    async def set_fault(self, request: Request) -> Response:
        """Switch a fault on or off."""
        name = request.path_params["name"]
        if name != EVERYTHING and name not in self._registry.skills:
            return PlainTextResponse("There is no such skill.", 404)
        if request.method == "DELETE":
            self._registry.faults.pop(name, None)
        else:
            try:
                self._registry.faults[name] = Fault.model_validate_json(await request.body())
            except ValidationError as error:
                return PlainTextResponse(str(error), 400)
        return Response(status_code=204)

    async def well_known(self, request: Request) -> Response:
        """Where the API is."""
        base = str(request.base_url).rstrip("/")
        return _Json({"apiBase": base, "authBase": base, "minCliVersion": "0.0.5"})

    async def search(self, request: Request) -> Response:
        """By words."""
        query = request.query_params.get("q", "")
        if not query:
            raise _Missing(400, "Missing q")
        found = self._registry.search(query)
        if request.query_params.get("mode") == "exact":
            found = [(score, skill) for score, skill in found if skill.slug == query]
        rows = [{"score": score, **_listed(skill)} for score, skill in found[: _limit(request)]]
        return _Json({"results": rows})

    async def trending(self, request: Request) -> Response:
        """By downloads."""
        found = sorted(self._registry.skills.values(), key=lambda skill: -skill.downloads)
        return _Json({"items": [_listed(skill) for skill in found[: _limit(request)]], "nextCursor": None})

    async def list(self, request: Request) -> Response:
        """In pages, by name."""
        prefix = request.query_params.get("prefix", "")
        found = sorted(skill.name for skill in self._registry.skills.values() if skill.slug.startswith(prefix))
        first = int(request.query_params.get("cursor") or 0)
        page = found[first : first + _limit(request)]
        more = first + len(page)
        items = [{**_listed(self._registry.skills[name]), **_detail(self._registry.skills[name])} for name in page]
        return _Json({"items": items, "nextCursor": str(more) if more < len(found) else None})

    async def show(self, request: Request) -> Response:
        """A skill."""
        skill = self._skill(request)
        detail = _detail(skill)
        answer: dict[str, Any] = {
            "skill": detail,
            "latestVersion": detail.pop("latestVersion"),
            "metadata": None,
            "owner": {"handle": skill.owner, "displayName": skill.owner, "image": None},
        }
        if skill.latest.status in ("suspicious", "malicious"):
            answer["moderation"] = _moderation(skill.latest)
        return _Json(answer)

    async def versions(self, request: Request) -> Response:
        """Its versions, the newest first."""
        skill = self._skill(request)
        items = [_version(skill, release) for release in reversed(skill.releases)]
        return _Json({"items": items[: _limit(request)], "nextCursor": None})

    async def version(self, request: Request) -> Response:
        """One of them."""
        skill = self._skill(request)
        release = _find(skill, request.path_params["version"])
        files = release.listed
        if self._registry.fault(skill.name).changed:
            files = Release("", _changed(release)).listed
        version = {**_version(skill, release), "files": files, "security": {"status": release.status}}
        return _Json({"version": version, "skill": {"slug": skill.slug, "displayName": skill.title}})

    async def install(self, request: Request) -> Response:
        """Where the newest one's archive is."""
        skill = self._skill(request)
        if skill.latest.status == "malicious":
            body = {
                "ok": False, "slug": skill.slug, "reason": "github_scan_failed",
                "message": "This skill is blocked by ClawHub.", "status": 403,
            }  # fmt: skip
            return _Json(body, 403)
        query = f"slug={skill.slug}&ownerHandle={skill.owner}&version={skill.latest.version}"
        url = f"{str(request.base_url).rstrip('/')}/api/v1/download?{query}"
        archive = {"version": skill.latest.version, "downloadUrl": url}
        return _Json({"ok": True, "slug": skill.slug, "installKind": "archive", "archive": archive})

    async def download(self, request: Request) -> Response:
        """An archive."""
        skill = self._skill(request)
        release = _find(skill, request.query_params.get("version") or skill.latest.version)
        if release.status == "malicious":
            raise _Missing(403, "This version is blocked.")
        self._registry.downloads[f"{skill.name}@{release.version}"] += 1
        content = release.content
        if self._registry.fault(skill.name).changed:
            content = pack(_changed(release))
        headers = {"X-ClawHub-Artifact-Sha256": hashlib.sha256(content).hexdigest()}
        return Response(content, media_type="application/zip", headers=headers)

    async def verify(self, request: Request) -> Response:
        """The security check's verdict, at length."""
        skill = self._skill(request)
        version = request.query_params.get("version")
        release = _find(skill, version or skill.latest.version)
        passed = release.status == "clean"
        page = _page(request, skill)
        return _Json(
            {
                "schema": "clawhub.skill.verify.v1",
                "ok": passed,
                "decision": "pass" if passed else "fail",
                "reasons": list(release.reasons),
                "slug": skill.slug,
                "displayName": skill.title,
                "pageUrl": page,
                "publisherHandle": skill.owner,
                "publisherDisplayName": skill.owner,
                "publisherProfileUrl": None,
                "version": release.version,
                "resolvedFrom": "version" if version else "latest",
                "tag": None,
                "createdAt": skill.published_at(release),
                "card": {"available": True, "url": f"{request.base_url!s}api/v1/skills/{skill.slug}/card"},
                "artifact": {"files": release.listed},
                "provenance": None,
                "security": {"status": release.status, "passed": passed},
                "signature": {"status": "unsigned"},
            }
        )

    async def card(self, request: Request) -> Response:
        """The same, for people."""
        skill = self._skill(request)
        return PlainTextResponse(f"# {skill.title}\n\n{skill.summary}\n")

    async def file(self, request: Request) -> Response:
        """One file."""
        skill = self._skill(request)
        release = _find(skill, request.query_params.get("version") or skill.latest.version)
        content = release.files.get(request.query_params.get("path", ""))
        if content is None:
            raise _Missing(404, "File not found")
        return PlainTextResponse(content)

    async def moderation(self, request: Request) -> Response:
        """Why it is flagged, if it is."""
        release = self._skill(request).latest
        flagged = release.status in ("suspicious", "malicious")
        return _Json({"moderation": {**_moderation(release), "evidence": []} if flagged else None})

    async def resolve(self, request: Request) -> Response:
        """Which version a folder is."""
        skill = self._skill(request)
        match = self._registry.resolve(skill, request.query_params.get("hash", ""))
        return _Json(
            {
                "slug": skill.slug,
                "match": {"version": match.version} if match else None,
                "latestVersion": {"version": skill.latest.version},
            }
        )

    async def verdicts(self, request: Request) -> Response:
        """The security check's verdicts of up to a hundred versions."""
        try:
            items = json.loads(await request.body())["items"]
            answers = [self._verdict(request, item) for item in items[:100]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Missing(400, "Invalid request") from None
        return _Json({"items": answers})

    def _verdict(self, request: Request, item: dict[str, Any]) -> dict[str, Any]:
        asked = {
            "requestedSlug": item["slug"],
            "requestedOwnerHandle": item.get("ownerHandle"),
            "requestedVersion": item["version"],
        }
        found = self._registry.named(item["slug"], item.get("ownerHandle"))
        release = found[0].find(item["version"]) if len(found) == 1 else None
        if release is None:
            code = "version_not_found" if found else "skill_not_found"
            return {
                **asked, "ok": False, "decision": "fail", "reasons": [code.replace("_", ".", 1)],
                "slug": None, "version": None, "publisherHandle": None, "security": None,
                "error": {"code": code, "message": "Not found."},
            }  # fmt: skip
        skill, passed = found[0], release.status == "clean"
        page = _page(request, skill)
        return {
            **asked,
            "ok": passed,
            "decision": "pass" if passed else "fail",
            "reasons": list(release.reasons),
            "slug": skill.slug,
            "version": release.version,
            "displayName": skill.title,
            "publisherHandle": skill.owner,
            "publisherDisplayName": skill.owner,
            "createdAt": skill.published_at(release),
            "checkedAt": skill.published_at(release),
            "overview": f"The stand-in says {release.status}.",
            "skillUrl": page,
            "securityAuditUrl": f"{page}/security-audit?version={release.version}",
            "security": {"status": release.status, "passed": passed},
            **self._registry.fault(skill.name).verdict,
        }

    def _asked_about(self, request: Request) -> str | None:
        slug = request.path_params.get("slug") or request.query_params.get("slug")
        found = self._registry.named(slug, request.query_params.get("ownerHandle")) if slug else []
        return found[0].name if found else None

    def _skill(self, request: Request) -> Published:
        slug = request.path_params.get("slug") or request.query_params.get("slug", "")
        found = self._registry.named(slug, request.query_params.get("ownerHandle"))
        if len(found) > 1:
            raise _Missing(409, f"Several publishers have {slug}.")
        if not found:
            raise _Missing(404, "Skill not found")
        return found[0]


def _find(skill: Published, version: str) -> Release:
    release = skill.find(version)
    if release is None:
        raise _Missing(404, "Version not found")
    return release


def _version(skill: Published, release: Release) -> dict[str, Any]:
    return {
        "version": release.version,
        "createdAt": skill.published_at(release),
        "changelog": release.changelog,
        "changelogSource": "user",
        "license": None,
    }


def _detail(skill: Published) -> dict[str, Any]:
    return {
        "slug": skill.slug,
        "displayName": skill.title,
        "summary": skill.summary,
        "tags": {"latest": skill.latest.version},
        "stats": {"downloads": skill.downloads},
        "createdAt": skill.published_at(skill.releases[0]),
        "updatedAt": skill.published_at(skill.latest),
        "latestVersion": _version(skill, skill.latest),
    }


def _listed(skill: Published) -> dict[str, Any]:
    return {
        "source": "clawhub",
        "slug": skill.slug,
        "displayName": skill.title,
        "summary": skill.summary,
        "version": skill.latest.version,
        "ownerHandle": skill.owner,
        "owner": {"handle": skill.owner, "displayName": skill.owner},
        "downloads": skill.downloads,
        "updatedAt": skill.published_at(skill.latest),
        "install": {"kind": "clawhub", "reference": skill.name, "sourceUrl": None},
    }


def _moderation(release: Release) -> dict[str, Any]:
    return {
        "isSuspicious": True,
        "isMalwareBlocked": release.status == "malicious",
        "verdict": release.status,
        "reasonCodes": list(release.reasons),
        "summary": None,
        "engineVersion": "stand-in",
        "updatedAt": None,
    }


def _changed(release: Release) -> dict[str, bytes]:
    return {path: content + _CHANGED for path, content in release.files.items()}


def _page(request: Request, skill: Published) -> str:
    return f"{str(request.base_url).rstrip('/')}/{skill.owner}/skills/{skill.slug}"


def _limit(request: Request) -> int:
    value = request.query_params.get("limit", "")
    return max(1, min(int(value), 200)) if value.isdigit() else 25
