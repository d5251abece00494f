"""The public side behind a real Caddy with the host's configuration: certificates, restarts, and who was refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from bot.demo.settings import free_port
from bot.front import registration
from bot.front.app import Front, public_app, uvicorn_config
from bot.front.context import FrontContext
from bot.front.ingest import WEBHOOK_PATH, webhook_secret
from bot.serve import _Server
from bot.settings import Settings
from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.store import Database
from bot.store.tables import InboxUpdate
from infra.tls import FOLDER, STATE, TlsSpec, render_caddyfile
from tests.integration.conftest import TELEGRAM_TOKEN
from tests.integration.front.conftest import eventually
from tests.updates import text_message

HEADER = "X-Telegram-Bot-Api-Secret-Token"
FORGED = {"X-Forwarded-For": "198.51.100.7", "X-Real-IP": "198.51.100.7", "Forwarded": "for=198.51.100.7"}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """One kind of database is enough here."""
    return f"sqlite+aiosqlite:///{tmp_path / 'db' / 'zaki.sqlite3'}"


@dataclass
class Caddy:
    """Caddy on every address of this machine, before whatever listens on the front's port."""

    folder: Path
    spec: TlsSpec

    @property
    def url(self) -> str:
        """As Telegram knows it."""
        return self.spec.public_url

    @property
    def front(self) -> tuple[str, int]:
        """Where the front has to listen."""
        host, _, port = self.spec.front.rpartition(":")
        return host, int(port)

    @property
    def certificate(self) -> Path:
        """What Telegram is given."""
        return self.folder / "certificate.pem"

    def client(self) -> httpx.AsyncClient:
        """Somebody who trusts nothing but the certificate, and no proxy of the environment."""
        trusting = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.AsyncClient(base_url=self.url, verify=trusting, trust_env=False, timeout=40)

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text()

    def make_certificate(self) -> None:
        """A new one, as the host makes it."""
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "new.pem"]
        subprocess.run(words, cwd=self.folder, capture_output=True, check=True)
        made = (self.folder / "new.pem").read_text()
        (self.folder / "server.pem").write_text(made + (self.folder / "key.pem").read_text())
        (self.folder / "new.pem").rename(self.certificate)

    def command(self, word: str, *more: str) -> list[str]:
        """Words that run it."""
        return ["caddy", word, "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile", *more]

    @property
    def environment(self) -> dict[str, str]:
        """Without anything of this machine's."""
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}


@pytest.fixture
async def caddy() -> AsyncIterator[Caddy]:
    """Caddy with the rendered configuration, in a folder of its own."""
    # Short, for the path of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="zaki-tls-", dir="/tmp"))
    spec = TlsSpec(
        address=IPv4Address("127.0.0.1"),
        front=f"127.0.0.1:{free_port('127.0.0.1', 0)}",
        port=free_port("0.0.0.0", 0),
    )
    caddy = Caddy(folder, spec)
    caddy.make_certificate()
    text = render_caddyfile(spec)
    for path, moved in ((FOLDER, folder), (STATE, folder / "state"), ("/run/zaki-tls", folder)):
        text = text.replace(path, str(moved))
    (folder / "Caddyfile").write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(caddy.command("run"), env=caddy.environment, stdout=log, stderr=log)
    try:

        async def listens() -> bool:
            assert process.poll() is None, caddy.log()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", spec.port)) == 0

        await eventually(listens)
        yield caddy
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def listener(caddy: Caddy) -> Iterator[socket.socket]:
    """The front's socket, which systemd holds on a host and which outlives every front."""
    with socket.create_server(caddy.front) as listener:
        yield listener


@asynccontextmanager
async def serving(front: Front, listener: socket.socket) -> AsyncIterator[None]:
    """The front's public side, as the service serves it."""
    server = _Server(uvicorn_config(public_app(front)))
    task = asyncio.create_task(server.serve([listener.dup()]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def front(context: FrontContext) -> AsyncIterator[Front]:
    """A front whose background is not started."""
    front = Front(context)
    yield front
    await front.stop()


@pytest.fixture
def secret(context: FrontContext) -> dict[str, str]:
    """The header that Telegram sends."""
    return {HEADER: webhook_secret(context.key, context.settings.require_token())}


def own_addresses() -> Iterator[str]:
    """This machine's addresses that are not the loopback's."""
    found = subprocess.run(
        ["ip", "-json", "-4", "address", "show", "scope", "global"], capture_output=True, text=True, check=True
    )
    for device in json.loads(found.stdout):
        yield from (address["local"] for address in device["addr_info"])


async def test_the_webhook_is_reached_over_https_and_nothing_else_of_the_front(
    front: Front, caddy: Caddy, listener: socket.socket, secret: dict[str, str]
) -> None:
    async with serving(front, listener), caddy.client() as client:
        answer = await client.post(WEBHOOK_PATH, content=text_message(1, 4711, "hello"), headers=secret)
        assert answer.status_code == 200
        for path in ("/metrics", "/readyz", "/healthz", "/", "/telegram/webhook/more", "/telegram/bot1:a/getMe"):
            assert (await client.get(path)).status_code == 404, path


async def test_a_front_that_restarts_is_waited_for(
    front: Front, caddy: Caddy, listener: socket.socket, secret: dict[str, str]
) -> None:
    async with caddy.client() as client:
        for number in range(2):
            async with serving(front, listener):
                pass
            post = client.post(WEBHOOK_PATH, content=text_message(number, 4711, "hello"), headers=secret)
            asked = asyncio.create_task(post)
            # Nobody is there to answer.
            done, _ = await asyncio.wait({asked}, timeout=1)
            assert done == set()
            async with serving(front, listener):
                assert (await asked).status_code == 200


async def test_who_is_refused_is_named_by_the_address_that_caddy_saw(
    front: Front, caddy: Caddy, listener: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    address = next(own_addresses())
    host = f"127.0.0.1:{caddy.spec.port}"
    async with serving(front, listener), httpx.AsyncClient(verify=False, trust_env=False) as client:  # noqa: S501
        for headers in ({}, FORGED, {"X-Forwarded-For": "127.0.0.1"}):
            answer = await client.post(
                f"https://{address}:{caddy.spec.port}{WEBHOOK_PATH}", headers={"Host": host, HEADER: "x", **headers}
            )
            assert answer.status_code == 401
    assert capsys.readouterr().out == f"zaki refused {address}\n" * 3


async def test_this_machine_is_never_named(
    front: Front, caddy: Caddy, listener: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(front, listener), caddy.client() as client:
        assert (await client.post(WEBHOOK_PATH, headers=FORGED)).status_code == 401
        answer = await client.post(f"http://{caddy.spec.front}{WEBHOOK_PATH}")
        assert answer.status_code == 401
    assert capsys.readouterr().out == ""


async def test_caddy_writes_of_no_secret(caddy: Caddy) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, *caddy.front), caddy.client() as client:
        answer = await client.post(f"{WEBHOOK_PATH}?code=a-secret-too", headers={HEADER: "a-secret"}, content=b"{}")
        assert answer.status_code == 502
    assert '"status":502' in caddy.log()
    assert "a-secret" not in caddy.log()


async def test_telegram_is_given_the_certificate_and_each_new_one(
    make_context: Callable[[Settings], FrontContext],
    make_settings: Callable[..., Settings],
    database: Database,
    caddy: Caddy,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration, "_LOOK_AGAIN", 0.1)

    async def stored(count: int) -> bool:
        async with database.read() as session:
            return await session.scalar(select(func.count()).select_from(InboxUpdate)) == count

    telegram = create_app(SimulatorConfig(token=TELEGRAM_TOKEN))

    async def given() -> bool:
        settings = telegram.state.simulator.webhook.settings
        return settings is not None and settings.certificate == caddy.certificate.read_text()

    async with running(telegram) as api, SimulatorClient(api) as people:
        settings = make_settings(telegram_api=api, public_url=caddy.url, webhook_certificate=caddy.certificate)
        front = Front(make_context(settings))
        async with serving(front, listener):
            await front.start()
            person = await people.new_user()
            await people.say(person, "hello")
            await eventually(lambda: stored(1))

            caddy.make_certificate()
            subprocess.run(caddy.command("reload", "--force"), env=caddy.environment, capture_output=True, check=True)
            await eventually(given)
            await people.say(person, "again")
            await eventually(lambda: stored(2))
            await front.stop()
