"""A real front in the test's own namespace, before a simulated Telegram, for two instances of two people."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import uvicorn
from sqlalchemy import delete, or_, select

from bot.attack.scene import Target
from bot.credentials import FrontCredentials, FrontKey, load_key
from bot.front.app import Front, bridge_app, uvicorn_config
from bot.front.context import FrontContext
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.settings import Settings
from bot.skills import locks
from bot.skills.names import Reference, SkillName
from bot.standins import serving as standin
from bot.standins.registry import Registry, registry_app, samples
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.standins.telegram.client import SimulatedPerson
from bot.store import Database, now
from bot.store.tables import (
    Instance,
    OutboxMessage,
    SkillLock,
    SkillOrigin,
    SkillSource,
    SkillWish,
    Usage,
    User,
    UserStatus,
)
from tests.e2e.network.namespaces import GATEWAY

TOKEN = "1234567890:AArealTOKENrealTOKENrealTOKENreal"
#: What the mirror has to ask of a registry.
_ASKED = re.compile(r"/api/v1/(download|skills/-/security-verdicts|skills/[a-z0-9][a-z0-9-]*(/versions/[0-9.]+)?)")
_T = TypeVar("_T")


class AskedRegistry:
    """A stand-in registry that notes the paths that it is asked for, before anybody decodes them."""

    def __init__(self) -> None:
        self._app = registry_app(Registry(samples()))
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note and answer."""
        if scope["type"] == "http":
            self.paths.append(scope["raw_path"].decode())
        await self._app(scope, receive, send)


class AttackedFront:
    """The front as the attacker's judge sees it: by what reached Telegram, and by what is in the database."""

    at = Target(GATEWAY, 8081)
    skill: Mapping[str, str] = MappingProxyType({"slug": "tide-tables", "ownerHandle": "samples", "version": "1.0.0"})

    def __init__(self, front: Front, telegram: SimulatorClient, registry: AskedRegistry) -> None:
        self.context = front.context
        self.telegram = telegram
        self._mirror = front.skills
        self._registry = registry
        self.update: Mapping[str, Any] = {}
        self.mine: FrontCredentials
        self.theirs: FrontCredentials
        self.my_chat = self.their_chat = 0
        self.their_file = ""
        self._ids: tuple[str, str] = ("", "")
        self._calls = 0

    async def introduce(self, instance_id: str, address: str, name: str) -> SimulatedPerson:
        """A person with an instance at that address."""
        person = await self.telegram.new_user(first_name=name)
        async with self.context.database.write() as session:
            user = User(telegram_id=person.id, first_name=name, status=UserStatus.ACTIVE, created_at=now())
            session.add(user)
            await session.flush()
            session.add(
                Instance(id=instance_id, user_id=user.id, plan="standard", address=address, image="x", created_at=now())
            )
        return person

    async def hold(self, mine: tuple[str, str], theirs: tuple[str, str]) -> None:
        """The attacker's instance and the neighbour's, id and address each."""
        self._ids = (mine[0], theirs[0])
        me, them = await self.introduce(*mine, "Mallory"), await self.introduce(*theirs, "Nina")
        self.my_chat, self.their_chat = me.id, them.id
        self.mine, self.theirs = (self.context.key.derive(which, 1) for which in self._ids)
        sent = await self.telegram.send_file(them, "document", "diary.txt", b"dear diary")
        self.their_file = str(sent.raw["document"]["file_id"])
        await self._agree(them)

    async def _agree(self, them: SimulatedPerson) -> None:
        """Both have an older version of a skill; the neighbour's person agreed to what the newer one asks for."""
        name = SkillName("samples", "city-weather")
        old, new = [await self._mirror.version(Reference(name, version)) for version in ("1.0.0", "1.1.0")]
        origin = {"type": "clawhub", "slug": name.slug, "ownerHandle": name.owner, "version": new.version}
        request = {"protocolVersion": 1, "targetType": "skill", "targetName": name.slug, "origin": origin}
        self.update = {"request": request, "digest": new.digest}
        async with self.context.database.write() as session:
            for which in self._ids:
                await locks.settle(session, which, Reference(name, old.version), str(old.digest))
            user_id = await session.scalar(select(User.id).where(User.telegram_id == them.id))
            key = {"user_id": user_id, "owner": name.owner, "slug": name.slug}
            session.add(SkillWish(**key, approved=new.version, source=SkillSource.PERSON, asked_at=now()))

    @asynccontextmanager
    async def taking_it_for_the_neighbour(self) -> AsyncIterator[None]:
        """Believe during the block that the neighbour calls from the attacker's address."""
        mine, theirs = self._ids
        before = {which: await self._change(which, address=None) for which in (mine, theirs)}
        await self._change(theirs, address=before[mine].address)
        yield
        await self._change(theirs, address=before[theirs].address)
        await self._change(mine, address=before[mine].address)

    @asynccontextmanager
    async def owned_by_the_neighbour(self) -> AsyncIterator[None]:
        """Believe during the block that the attacker's instance is the neighbour's person's."""
        mine, theirs = self._ids
        before = {which: await self._change(which, user_id=None) for which in (mine, theirs)}
        await self._change(mine, user_id=before[theirs].user_id)
        yield
        await self._change(mine, user_id=before[mine].user_id)
        await self._change(theirs, user_id=before[theirs].user_id)

    async def _change(self, instance_id: str, **columns: object) -> Instance:
        """Change the row; returns it as it was."""
        async with self.context.database.read() as session:
            before = await session.get_one(Instance, instance_id)
            session.expunge(before)
        async with self.context.database.write() as session:
            row = await session.get_one(Instance, instance_id)
            for name, value in columns.items():
                setattr(row, name, value)
        return before

    async def watch(self) -> None:
        """Note what it does from now on."""
        async with self.context.database.write() as session:
            await session.execute(delete(OutboxMessage))
            await session.execute(delete(Usage))
            await session.execute(delete(SkillLock).where(SkillLock.origin == SkillOrigin.DOWNLOAD))
        self._registry.paths.clear()
        self._calls = len(await self.telegram.calls())

    async def harm(self) -> str:
        """What concerned the neighbour since."""
        attacker, neighbour = self._ids
        async with self.context.database.read() as session:
            theirs = or_(OutboxMessage.chat_id != self.my_chat, OutboxMessage.instance_id != attacker)
            sent = await session.scalar(select(OutboxMessage.method).where(theirs).limit(1))
            used = await session.scalar(select(Usage.id).where(Usage.instance_id == neighbour).limit(1))
            fetched = SkillLock.instance_id == neighbour, SkillLock.origin == SkillOrigin.DOWNLOAD
            noted = await session.scalar(select(SkillLock.slug).where(*fetched).limit(1))
        if noted is not None:
            return f"the download of {noted} was noted as the neighbour's"
        strayed = next((path for path in self._registry.paths if not _ASKED.fullmatch(path)), None)
        if strayed is not None:
            return f"the mirror asked the registry for {strayed}"
        if sent is not None:
            return f"the front took {sent} for another chat"
        if used is not None:
            return "the model answered on the neighbour's account"
        marks = (str(self.their_chat), self.their_file)
        for call in (await self.telegram.calls())[self._calls :]:
            if any(mark in str(call.params) for mark in marks):
                return f"{call.method} about the neighbour reached Telegram"
        return ""


@asynccontextmanager
async def attacked_front(namespace: str, folder: Path) -> AsyncIterator[AttackedFront]:
    """A front that listens at the gateway's address in the namespace during the block."""
    app = create_app(SimulatorConfig(TOKEN))
    registry = AskedRegistry()
    async with (
        running(app) as url,
        standin.running(registry) as registry_url,
        SimulatorClient(url) as telegram,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        settings = Settings(
            _env_file=None,
            telegram_token=TOKEN,
            telegram_api=url,
            state=folder / "front",
            skills_url=registry_url,
            instances_listen=f"{GATEWAY}:8081",
        )
        (folder / "front").mkdir()
        database = Database(settings.effective_database_url)
        await database.migrate()
        host = HostFacts(
            network="zaki0",
            bridge="zaki0",
            subnet=IPv4Network("10.86.0.0/16"),
            gateway=IPv4Address(GATEWAY),
            docker_range=IPv4Network("10.86.255.0/24"),
            image="sha256:" + "0" * 64,
            runtime="runc",
        )
        key = FrontKey(load_key(settings.state / "keys" / "front.key"))
        front = Front(FrontContext(settings, database, Nudge(), host, key, http))
        sending = asyncio.create_task(front.outbox.run())
        listener = in_namespace(namespace, lambda: socket.create_server((GATEWAY, 8081), backlog=512))
        server = uvicorn.Server(uvicorn_config(bridge_app(front), bridge=True))
        serving = asyncio.create_task(server._serve([listener]))
        try:
            yield AttackedFront(front, telegram, registry)
        finally:
            server.should_exit = True
            await serving
            await front.stop()
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            await database.close()


def in_namespace(name: str, make: Callable[[], _T]) -> _T:
    """What the function makes in a network namespace: a socket stays in the one that it was made in."""

    def enter() -> _T:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)
        return make()

    # A thread that ends: nobody else must find itself there.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()
