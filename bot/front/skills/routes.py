"""`/skills/…` for instances: ClawHub's API as both real clients speak it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from bot.front import metrics
from bot.front.botapi.in_flight import InFlight
from bot.front.context import FrontContext
from bot.front.guard import instance_at
from bot.front.inbox import DATABASE_ERRORS
from bot.front.skills import answers, policy
from bot.front.skills.allowances import asking
from bot.front.skills.errors import BadRequest, Forbidden, NotThere, SkillError, TakenBack
from bot.front.skills.listing import Listing
from bot.front.skills.mirror import Mirror
from bot.front.skills.opinions import BATCH
from bot.skills.names import BadName, Reference, SkillName, checked_slug, checked_version, owner_handle
from bot.store.tables import Skill, SkillVerdict, SkillVersion

_log = structlog.get_logger(__name__)

#: Requests of one instance at a time.
_MOST_IN_FLIGHT = 16
#: Bytes of a request's body: OpenClaw sends a policy request of at most 256 KiB.
_LARGEST_BODY = 512 * 1024
#: Versions of one question about verdicts that are vetted at a time.
_VERDICTS_AT_ONCE = 4
#: Bytes of one file that is shown.
_LARGEST_SHOWN = 200 * 1024
_DEFAULT_LIMIT = 25
_MOST_LISTED = 100
_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

Handler = Callable[[Request, str], Awaitable[Response]]


def router(context: FrontContext, mirror: Mirror) -> APIRouter:
    """The routes; they trust the peer's address, so serve them on the bridge's listener alone."""
    routes = APIRouter(include_in_schema=False)
    served = Served(mirror, context.settings.skill_sets)
    in_flight = InFlight(_MOST_IN_FLIGHT)

    def add(path: str, handler: Handler, method: str = "GET") -> None:
        async def serve(request: Request) -> Response:
            response = await _answer(context, in_flight, handler, request)
            metrics.SKILL_REQUESTS.labels(str(response.status_code)).inc()
            return response

        methods = _EVERY_METHOD if method == "*" else [method]
        routes.add_api_route(f"/skills{path}", serve, methods=methods)

    add("/.well-known/clawhub.json", served.well_known)
    add("/.well-known/clawdhub.json", served.well_known)
    add("/api/v1/search", served.search)
    add("/api/v1/trending", served.trending)
    add("/api/v1/resolve", served.resolve)
    add("/api/v1/download", served.download)
    add("/api/v1/skills", served.list)
    add("/api/v1/skills/-/security-verdicts", served.verdicts, "POST")
    add("/api/v1/skills/{slug}", served.show)
    add("/api/v1/skills/{slug}/versions", served.versions)
    add("/api/v1/skills/{slug}/versions/{version}", served.version)
    add("/api/v1/skills/{slug}/install", served.install)
    add("/api/v1/skills/{slug}/verify", served.verify)
    add("/api/v1/skills/{slug}/card", served.card)
    add("/api/v1/skills/{slug}/file", served.file)
    add("/api/v1/skills/{slug}/moderation", served.moderation)
    add("/policy", served.policy, "POST")
    add("/{rest:path}", served.nothing_else, "*")
    return routes


async def _answer(context: FrontContext, in_flight: InFlight, handler: Handler, request: Request) -> Response:
    try:
        instance_id = await instance_at(context, request.client.host if request.client else "")
        if instance_id is None:
            return PlainTextResponse("Skills are for Zaki's instances.", 401)
        if not in_flight.enter(instance_id):
            return PlainTextResponse(
                f"Not more than {_MOST_IN_FLIGHT} requests at a time.", 429, headers={"Retry-After": "2"}
            )
        try:
            with asking(instance_id):
                return await handler(request, instance_id)
        finally:
            in_flight.leave(instance_id)
    except SkillError as error:
        # Plain text, as ClawHub's own errors are; clients show it.
        return PlainTextResponse(error.sentence, error.status, headers=error.headers)
    except BadName as error:
        return PlainTextResponse(str(error), 400)
    except DATABASE_ERRORS:
        if context.database.trouble.reason is None:
            _log.exception("the database does not answer")
        return PlainTextResponse("Zaki's database does not answer; try again soon.", 503, headers={"Retry-After": "5"})


class Served:
    """A handler for each route."""

    def __init__(self, mirror: Mirror, sets: Path | None) -> None:
        """`sets`: the operator's file of recommended skills; None: Zaki's own."""
        self._mirror = mirror
        self._sets = sets
        self._listing = Listing(mirror)

    async def well_known(self, request: Request, _instance: str) -> Response:
        """Where the API is."""
        return JSONResponse(answers.well_known(_base(request)))

    async def search(self, request: Request, _instance: str) -> Response:
        """Skills by meaning, as the registry finds them."""
        words = request.query_params.get("q", "").strip()
        if not words:
            raise BadRequest("Say what to search for: ?q=…")
        mode = "exact" if request.query_params.get("mode") == "exact" else None
        return _hinted(await self._listing.search(words[:200], _limit(request), mode))

    async def trending(self, request: Request, _instance: str) -> Response:
        """What is installed a lot lately."""
        return _hinted(await self._listing.trending(_limit(request)))

    async def list(self, request: Request, _instance: str) -> Response:
        """The registry's list, page by page."""
        params = {name: _short(request, name) for name in ("sort", "cursor", "prefix")}
        return JSONResponse(await self._listing.skills(params, _limit(request)))

    async def show(self, request: Request, _instance: str) -> Response:
        """A skill with its newest version that can be installed."""
        skill = await self._skill(request)
        return JSONResponse(answers.skill_detail(skill, await self._mirror.latest(skill)))

    async def versions(self, request: Request, _instance: str) -> Response:
        """Versions that passed, besides the newest."""
        skill = await self._skill(request)
        await self._mirror.latest(skill)
        rows = await self._mirror.versions(SkillName(skill.owner, skill.slug))
        passed = [row for row in rows if row.verdict == SkillVerdict.PASSED]
        return JSONResponse(answers.version_list(passed[: _limit(request)]))

    async def version(self, request: Request, _instance: str) -> Response:
        """One version, with its files."""
        skill = await self._skill(request)
        row = await self._mirror.pick(skill, str(request.path_params["version"]), None)
        return JSONResponse(answers.version_detail(skill, row))

    async def install(self, request: Request, _instance: str) -> Response:
        """Where the archive of the newest version is."""
        slug = checked_slug(str(request.path_params["slug"]))
        try:
            if request.query_params.get("forceInstall"):
                raise Forbidden("Zaki installs nothing before it is vetted; leave out --force-install.")
            if request.query_params.get("reference"):
                raise Forbidden("Zaki installs skills of ClawHub only, by their name @owner/name.")
            skill = await self._skill(request)
            return JSONResponse(answers.install(_base(request), await self._mirror.latest(skill)))
        except (Forbidden, TakenBack) as error:
            return JSONResponse(answers.no_install(slug, error.status, error.sentence), error.status)

    async def download(self, request: Request, instance: str) -> Response:
        """The archive of a version."""
        query = request.query_params
        version, tag = query.get("version"), query.get("tag")
        slug, owner = checked_slug(query.get("slug", "")), _owner(request)
        if owner is not None and version is not None:
            row = await self._mirror.version(Reference(SkillName(owner, slug), checked_version(version)))
        else:
            row = await self._mirror.pick(await self._mirror.skill(slug, owner), version, tag)
        path = await self._mirror.archive(row, instance)
        headers = {
            "ETag": f'"{row.archive}"',
            "X-ClawHub-Artifact-Sha256": str(row.archive),
            "Content-Disposition": f'attachment; filename="{row.slug}-{row.version}.zip"',
        }
        return FileResponse(path, media_type="application/zip", headers=headers)

    async def verify(self, request: Request, _instance: str) -> Response:
        """What Zaki makes of a version that may be installed."""
        version, tag = _short(request, "version"), _short(request, "tag")
        if request.query_params.get("reference"):
            raise Forbidden("Zaki installs skills of ClawHub only, by their name @owner/name.")
        skill = await self._skill(request)
        row = await self._mirror.pick(skill, version, tag)
        resolved = "version" if version else "tag" if tag else "latest"
        return JSONResponse(answers.verification(_base(request), skill, row, resolved, tag))

    async def card(self, request: Request, _instance: str) -> Response:
        """The same, for people."""
        skill = await self._skill(request)
        row = await self._mirror.pick(skill, _short(request, "version"), _short(request, "tag"))
        return PlainTextResponse(answers.card(row))

    async def file(self, request: Request, _instance: str) -> Response:
        """One file of a version."""
        skill = await self._skill(request)
        row = await self._mirror.pick(skill, _short(request, "version"), _short(request, "tag"))
        content = await self._mirror.file(row, request.query_params.get("path", ""))
        if len(content) > _LARGEST_SHOWN:
            raise BadRequest("That file is too large to be shown; download the skill.")
        return Response(content, media_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})

    async def moderation(self, request: Request, _instance: str) -> Response:
        """Nothing: what is flagged is not served, and says so itself."""
        skill = await self._skill(request)
        return JSONResponse(answers.moderation(await self._mirror.latest(skill)))

    async def resolve(self, request: Request, _instance: str) -> Response:
        """Which version a folder is."""
        slug = checked_slug(request.query_params.get("slug", ""))
        skill = await self._mirror.skill(slug, _owner(request))
        latest = await self._mirror.latest(skill)
        rows = await self._mirror.versions(SkillName(skill.owner, skill.slug))
        wanted = request.query_params.get("hash", "").lower()
        match = next((row for row in rows if row.fingerprint == wanted), None)
        return JSONResponse(answers.resolved(match, latest))

    async def verdicts(self, request: Request, _instance: str) -> Response:
        """What Zaki makes of up to a hundred versions, each vetted where that was not done yet."""
        items = (await _body(request)).get("items")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise BadRequest('Give {"items": [{"slug", "ownerHandle", "version"}]}.')
        if len(items) > BATCH:
            raise BadRequest(f"Not more than {BATCH} items at a time.")
        room = asyncio.Semaphore(_VERDICTS_AT_ONCE)

        async def judge(item: dict[str, Any]) -> dict[str, Any]:
            async with room:
                return await self._verdict(_base(request), item)

        return JSONResponse({"items": await asyncio.gather(*map(judge, items))})

    async def _verdict(self, base: str, item: dict[str, Any]) -> dict[str, Any]:
        try:
            slug, version = checked_slug(str(item.get("slug"))), checked_version(str(item.get("version")))
            handle = item.get("ownerHandle")
            if isinstance(handle, str) and handle:
                owner = owner_handle(handle)
            else:
                owner = (await self._mirror.skill(slug, None)).owner
            reference = Reference(SkillName(owner, slug), version)
            row: SkillVersion | None = await self._mirror.version(reference)
        except (NotThere, BadName) as error:
            return answers.unknown_verdict(item, "version_not_found", str(error))
        except (Forbidden, TakenBack) as error:
            return answers.verdict(base, reference, None, error.sentence)
        except SkillError as error:
            return answers.unknown_verdict(item, "unavailable", error.sentence)
        return answers.verdict(base, reference, row, None)

    async def policy(self, request: Request, instance: str) -> Response:
        """What `security.installPolicy` is told."""
        try:
            asked = await _body(request)
        except BadRequest as error:
            return JSONResponse(policy.blocked(error.sentence))
        return JSONResponse(await policy.decide(self._mirror, self._sets, asked, instance))

    async def nothing_else(self, request: Request, _instance: str) -> Response:
        """Plugins, packages, GitHub's archives, publishing: not here."""
        path = str(request.path_params["rest"])
        if request.method == "GET" and path.startswith("api/v1/skills/"):
            raise NotThere("There is no such thing.")
        raise Forbidden("Zaki's mirror installs vetted skills of ClawHub, and nothing else: no plugins or packages.")

    async def _skill(self, request: Request) -> Skill:
        return await self._mirror.skill(checked_slug(str(request.path_params["slug"])), _owner(request))


def _base(request: Request) -> str:
    """The mirror's URL as this caller reaches it; only they are told it."""
    return f"{request.url.scheme}://{request.url.netloc}/skills"


def _owner(request: Request) -> str | None:
    handle = request.query_params.get("ownerHandle")
    return owner_handle(handle) if handle else None


def _limit(request: Request) -> int:
    value = request.query_params.get("limit", "")
    return max(1, min(int(value[:6]), _MOST_LISTED)) if value.isascii() and value.isdigit() else _DEFAULT_LIMIT


def _short(request: Request, name: str) -> str | None:
    return request.query_params.get(name, "")[:200] or None


def _hinted(found: dict[str, Any]) -> Response:
    headers = {"X-Zaki-Hint": found["hint"]} if "hint" in found else {}
    return JSONResponse(found, headers=headers)


async def _body(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _LARGEST_BODY:
            raise BadRequest(f"Not more than {_LARGEST_BODY // 1024} KiB at a time.")
    try:
        found = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise BadRequest("That is no JSON.") from None
    if not isinstance(found, dict):
        raise BadRequest("That is no JSON object.")
    return found
