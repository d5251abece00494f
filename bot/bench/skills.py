"""Skills: what a fleet costs the registry, how long an install waits, what runs after a recall, who waits for them."""

from __future__ import annotations

import asyncio
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import cast

import httpx
from fastapi import FastAPI

from bot.bench import recommended
from bot.bench.figures import Figure, Report
from bot.bench.standin_image import _docker as docker
from bot.credentials import ArchiveKey, FrontKey, GatewayKey, new_instance_id
from bot.front.context import FrontContext
from bot.front.skills import Mirror, router
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.egress import EgressSets
from bot.provisioner.skills import Recalling
from bot.provisioner.stacks import StackManager
from bot.provisioner.work import Work
from bot.settings import Settings, load_settings
from bot.skills import locks, recalls
from bot.skills.names import Reference, SkillName
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.registry.faults import EVERYTHING, Fault
from bot.standins.serving import running
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, SkillOrigin, SkillVersion, User, Wanted, Wish
from bot.toolchain import Toolchain

Tell = Callable[[str], None]

#: What every instance of the bench installs.
_SKILLS = (("city-weather", "1.0.0"), ("tide-tables", "1.0.0"), ("unit-converter", "2.0.1"))
_OWNER = "samples"
#: Milliseconds that the registry takes for an answer.
_DELAY = 100
_ROUNDS = 10
_FOLDER = ".openclaw/workspace/skills/tide-tables"
#: What an instance does with the skill, for as long as it is there and it may.
_RUN = f"while :; do [ -f /home/node/{_FOLDER}/SKILL.md ] && echo ran >> /home/node/ran; sleep 0.2; done"
#: Seconds for which instances run again after the recall.
_AFTER = 3.0


async def measure(instances: int, recalled: int, rounds: int, report: Report, tell: Tell) -> None:
    """`instances` install the same three skills; `recalled` have one that is recalled, all but one of them asleep.

    `rounds`: how often somebody new comes to an instance with the three skills, and to one with none.
    """
    with tempfile.TemporaryDirectory(prefix="zaki-bench-") as folder:
        async with _site(Path(folder), instances) as site:
            tell(f"{instances} instances install the same {len(_SKILLS)} skills …")
            await asyncio.gather(*(_install_all(site.mirror_url, address) for address in site.addresses))
            most = max(site.registry.downloads.values())
            report(Figure("skills", "upstream_downloads_per_version", most, "", instances))
            tell("an install from the mirror, and straight from the registry …")
            site.registry.faults[EVERYTHING] = Fault(delay_ms=_DELAY)
            ours, theirs = [], []
            for _ in range(_ROUNDS):
                ours.append(await _install_all(site.mirror_url, site.addresses[0]))
                theirs.append(await _install_all(site.registry_url, site.addresses[0]))
            mine, peer = statistics.median(ours), statistics.median(theirs)
            report(Figure("skills", "install", mine, "s", _ROUNDS, peer, mine / peer))
            site.registry.faults.clear()
            tell(f"{recalled} instances have a skill that is recalled, {recalled - 1} of them asleep …")
            await _recall(site, recalled, report)
    await recommended.measure([f"@{_OWNER}/{slug}" for slug, _ in _SKILLS], rounds, report, tell)


@dataclass
class _Site:
    settings: Settings
    database: Database
    registry: Registry
    registry_url: str
    mirror_url: str
    addresses: list[str]


@asynccontextmanager
async def _site(folder: Path, instances: int) -> AsyncIterator[_Site]:
    """A registry, a mirror in front of it, and instances that call from addresses of the loopback network."""
    addresses = [str(IPv4Address("127.1.0.1") + number) for number in range(instances)]
    async with AsyncExitStack() as exits:
        registry = Registry(samples())
        registry_url = await exits.enter_async_context(running(registry_app(registry)))
        settings = load_settings(_env_file=None, state=folder, skills_url=registry_url, telegram_token="1:bench")  # noqa: S106
        database = Database(f"sqlite+aiosqlite:///{folder / 'zaki.sqlite3'}")
        exits.push_async_callback(database.close)
        await database.migrate()
        async with database.write() as session:
            for address in addresses:
                session.add(
                    Instance(id=new_instance_id(), plan="standard", image="", address=address, created_at=now())
                )
        http = await exits.enter_async_context(httpx.AsyncClient(trust_env=False))
        mirror = Mirror(settings, database, http)
        exits.push_async_callback(mirror.close)
        app = FastAPI()
        app.include_router(
            router(FrontContext(settings, database, Nudge(), _host(), FrontKey(b"f" * 32), http), mirror)
        )
        url = await exits.enter_async_context(running(app))
        yield _Site(settings, database, registry, registry_url, f"{url}/skills", addresses)


def _host() -> HostFacts:
    subnet = IPv4Network("127.0.0.0/8")
    return HostFacts("zaki0", "zaki0", subnet, IPv4Address("127.0.0.1"), subnet, "sha256:" + "0" * 64, "runc")


async def _install_all(url: str, address: str) -> float:
    """What `openclaw skills install` asks for, in its order, for each skill; seconds of waiting."""
    began = time.monotonic()
    # On a busy machine a connection that is kept may be closed under the next request.
    transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits(max_keepalive_connections=0))
    async with httpx.AsyncClient(transport=transport, timeout=300, base_url=f"{url}/api/v1") as client:
        for slug, version in _SKILLS:
            about = {"ownerHandle": _OWNER}
            item = {"slug": slug, "ownerHandle": _OWNER, "version": version}
            for answer in (
                await client.get(f"/skills/{slug}", params=about),
                await client.get(f"/skills/{slug}/versions/{version}", params=about),
                await client.post("/skills/-/security-verdicts", json={"items": [item]}),
                await client.get("/download", params=item),
                await client.get(f"/skills/{slug}/verify", params={**about, "version": version}),
            ):
                answer.raise_for_status()
    return time.monotonic() - began


async def _recall(site: _Site, count: int, report: Report) -> None:
    name, version = SkillName(_OWNER, "tide-tables"), "1.0.0"
    ids = [new_instance_id() for _ in range(count)]
    image = Toolchain.from_pins().image_tag
    try:
        await _at_most(4, [asyncio.to_thread(_make, each, image) for each in ids])
        async with site.database.write() as session:
            row = await session.get_one(SkillVersion, (name.owner, name.slug, version))
            for number, each in enumerate(ids, 1):
                session.add(user := User(telegram_id=number, created_at=now()))
                await session.flush()
                session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
                container = ContainerState.RUNNING if number == 1 else ContainerState.PAUSED
                session.add(
                    Instance(id=each, user_id=user.id, plan="standard", image="", container=container, created_at=now())
                )
                await locks.note(session, each, Reference(name, version), str(row.digest), SkillOrigin.INSTALL)
        async with Containers.connect() as containers, httpx.AsyncClient(trust_env=False) as http:
            files = await _files(site, row)
            await _at_most(4, [_give(containers, each, files) for each in ids])
            await asyncio.sleep(_AFTER)
            await _at_most(8, [containers.pause(each) for each in ids[1:]])
            context = _context(site, containers, http)
            before = {each: await _runs(containers, each) for each in ids}
            began = time.monotonic()
            async with site.database.write() as session:
                await recalls.recall(session, name, version, "It is no good.")
            gone = await _take_away(context, began)
            # The awake one may have run until it was ended; nobody may from then on.
            before[ids[0]] = await _runs(containers, ids[0])
            await _at_most(4, [containers.start(each, 512) for each in ids])
            await asyncio.sleep(_AFTER)
            ran = sum([await _runs(containers, each) > before[each] for each in ids])
        used = sum(runs > 0 for runs in before.values())
        if used < count:
            raise RuntimeError(f"Only {used} of {count} instances ran the skill before the recall: try again.")
        report(Figure("skills", "runs_after_recall", ran, "", count))
        report(Figure("skills", "recall", max(gone), "s", count, parts={"median": statistics.median(gone)}))
    finally:
        await _at_most(4, [asyncio.to_thread(_remove, each) for each in ids])


async def _take_away(context: ProvisionerContext, began: float) -> list[float]:
    """As the provisioner does it; seconds from the recall until each has lost it."""
    recalling = Recalling(context)

    async def one(instance_id: str) -> float:
        async with context.database.read() as session:
            instance = await session.get_one(Instance, instance_id)
            user = await session.get_one(User, instance.user_id)
        observed = await context.containers.observe(instance_id)
        await recalling.carry_out(Work(context, instance, user, None), observed)
        return time.monotonic() - began

    async with context.database.read() as session:
        ids = await locks.waiting(session)
        known = {each: await session.get(Instance, each) for each in ids}
    return await asyncio.gather(*(one(each) for each in ids if (row := known[each]) is not None and row.user_id))


def _context(site: _Site, containers: Containers, http: httpx.AsyncClient) -> ProvisionerContext:
    return ProvisionerContext(
        settings=site.settings,
        database=site.database,
        nudge=Nudge(),
        host=_host(),
        front_key=FrontKey(b"f" * 32),
        gateway_key=GatewayKey(b"g" * 32),
        containers=containers,
        stacks=cast(StackManager, None),
        archive=Archive(site.settings.state, ArchiveKey(b"a" * 32), containers),
        http=http,
        egress=EgressSets(None),
    )


async def _files(site: _Site, row: SkillVersion) -> dict[str, bytes]:
    """The skill's files as they are installed."""
    transport = httpx.AsyncHTTPTransport(local_address=site.addresses[0])
    async with httpx.AsyncClient(transport=transport, base_url=f"{site.mirror_url}/api/v1") as client:
        about = {"ownerHandle": row.owner, "version": row.version}
        answers = {
            str(file["path"]): await client.get(f"/skills/{row.slug}/file", params={**about, "path": file["path"]})
            for file in row.files
        }
    return {path: answer.raise_for_status().content for path, answer in answers.items()}


async def _give(containers: Containers, instance_id: str, files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {f"{_FOLDER}/{path}".rsplit("/", depth)[0] for path in files for depth in range(1, 6)}
        for folder in sorted(each for each in folders if each):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o700, 1000, 1000
            tar.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(f"{_FOLDER}/{path}")
            entry.size, entry.uid, entry.gid = len(content), 1000, 1000
            tar.addfile(entry, io.BytesIO(content))
    await asyncio.to_thread(docker, "cp", "-", f"{instance_id}:/home/node", given=buffer.getvalue())


async def _runs(containers: Containers, instance_id: str) -> int:
    found = await containers.read_file(instance_id, "ran")
    return (found or b"").count(b"\n")


def _make(instance_id: str, image: str) -> None:
    """A container as an instance has it, as far as a recall sees of it."""
    label = f"zaki.instance={instance_id}"
    docker("volume", "create", "--label", label, instance_id)
    limits = ("--memory", "64m", "--network", "none", "--cap-drop", "ALL", "--user", "1000:1000", "--init")
    mounts = ("--volume", f"{instance_id}:/home/node", "--label", label)
    docker("create", "--name", instance_id, *limits, *mounts, image, "sh", "-c", _RUN)
    docker("start", instance_id)


def _remove(instance_id: str) -> None:
    docker("rm", "-f", instance_id)
    docker("volume", "rm", "-f", instance_id)


async def _at_most(number: int, work: Sequence[object]) -> None:
    """Await all of it, a few at a time."""
    gate = asyncio.Semaphore(number)

    async def one(each: object) -> None:
        async with gate:
            await each  # type: ignore[misc]

    await asyncio.gather(*(one(each) for each in work))
