"""The operator suspends, readmits and deletes people, whether a service runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from bot.cli import run
from bot.front.context import FrontContext
from bot.front.inbox import Inbox
from bot.front.outbox import Outbox
from bot.front.router import Router
from bot.front.telegram import TelegramApi
from bot.provisioner.lease import LeaseHeld
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    AuditEntry,
    ContainerState,
    Instance,
    OutboxMessage,
    OutboxStatus,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.timeline import Stage, note
from bot.users import admission, people, places, receipts

ADA = 7_000_000_001
ID = "u-aaaaaaaaaa"

Zaki = Callable[..., Any]


class Provisioner:
    """Deletes instances as the real one does, or says that somebody else is at it."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self.busy = False
        self.asked: list[str] = []

    async def reconcile(self, instance_id: str, request: object = None) -> None:
        """The end of a deletion, in one transaction."""
        self.asked.append(instance_id)
        if self.busy:
            raise LeaseHeld(instance_id)
        database = Database(self._database_url)
        try:
            await remove(database)
        finally:
            await database.close()


async def remove(database: Database) -> None:
    """What the provisioner leaves of an instance that nobody wants."""
    async with database.write() as session:
        wish = (await session.scalars(select(Wish))).one()
        assert wish.wanted == Wanted.ABSENT
        await session.execute(delete(Instance).where(Instance.id == ID))
        await receipts.add(session, ADA, [f"the container {ID}"])


@pytest.fixture
def provisioner(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Provisioner:
    """The one that commands bring with them."""
    provisioner = Provisioner(database_url)

    @asynccontextmanager
    async def provisioning(settings: Settings, database: Database) -> AsyncIterator[Provisioner]:
        yield provisioner

    monkeypatch.setattr("bot.cli.removal.provisioning", provisioning)
    return provisioner


@pytest.fixture
def zaki(
    database_url: str, monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> Zaki:
    """Runs a command against the test's database: exit code, standard output, standard error."""
    monkeypatch.chdir(settings.state.parent)
    monkeypatch.setenv("ZAKI_STATE", str(settings.state))
    monkeypatch.setenv("ZAKI_DATABASE_URL", database_url)

    async def command(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, words)
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
async def ada(database: Database, make_settings: Callable[..., Settings]) -> User:
    """Somebody with an instance, a message on its way and one that was sent."""
    async with database.write() as session:
        user = await people.remember(session, ADA, "Ada", "ada", "en")
        await admission.admit(session, make_settings(admission="open"), user)
        session.add(
            Instance(
                id=ID,
                user_id=user.id,
                plan="standard",
                image="sha256:0",
                container=ContainerState.RUNNING,
                ready_at=now(),
                created_at=now(),
            )
        )
        for status, finished_at in ((OutboxStatus.SENT, now()), (OutboxStatus.PENDING, None)):
            session.add(
                OutboxMessage(
                    instance_id=ID,
                    chat_id=ADA,
                    method="sendMessage",
                    params={},
                    status=status,
                    created_at=now(),
                    finished_at=finished_at,
                )
            )
        note(session, ADA, Stage.RECEIVED)
        return user


async def _left(database: Database) -> dict[str, int]:
    """Rows of hers."""
    async with database.read() as session:
        return {
            table.__tablename__: await session.scalar(select(func.count()).select_from(table)) or 0
            for table in (User, Wish, Instance, OutboxMessage, Announcement)
        }


NOTHING = {"users": 0, "wishes": 0, "instances": 0, "outbox": 0, "announcements": 0}


@pytest.mark.usefixtures("ada")
async def test_nobody_is_deleted_unasked(zaki: Zaki, database: Database, provisioner: Provisioner) -> None:
    before = await _left(database)
    code, out, err = await zaki("user", "rm", "@ada")
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert await _left(database) == before
    assert provisioner.asked == []


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("who", ["@ada", str(ADA), ID])
async def test_a_person_is_deleted_without_a_service(
    zaki: Zaki, database: Database, provisioner: Provisioner, who: str
) -> None:
    code, out, _ = await zaki("user", "rm", who, "--yes", "--json")
    assert code == 0
    receipt = json.loads(out)
    assert (receipt["telegram_id"], receipt["instance"]) == (ADA, ID)
    assert receipt["removed"] == [
        f"the container {ID}",
        "2 notes of what happened",
        "the entry with name, language and time zone",
        "2 outgoing messages",
    ]
    # Not even a goodbye waits for a service that may never come.
    assert await _left(database) == NOTHING
    async with database.read() as session:
        assert await places.taken(session) == 0
        done = (await session.scalars(select(AuditEntry))).one()
    assert (done.action, done.instance_id) == ("user.rm", ID)
    assert str(ADA) not in done.detail


@pytest.mark.usefixtures("ada")
async def test_the_receipt_is_a_table(zaki: Zaki, provisioner: Provisioner) -> None:
    code, out, err = await zaki("user", "rm", str(ADA), "--yes")
    assert code == 0
    assert [line.strip() for line in out.splitlines()[:2]] == ["removed", f"the container {ID}"]
    assert "gone" in err


@pytest.mark.usefixtures("ada")
async def test_a_running_service_ends_the_deletion_and_the_receipt_is_the_operators(
    zaki: Zaki, database: Database, provisioner: Provisioner, context: FrontContext
) -> None:
    provisioner.busy = True
    outbox = Outbox(context, TelegramApi(context))
    router = Router(context, outbox, grace=0.0)
    running = asyncio.create_task(router.run())

    async def remove_once_it_is_wished() -> None:
        async with asyncio.timeout(30):
            while not provisioner.asked:
                await asyncio.sleep(0.01)
        await remove(database)

    try:
        (code, out, _), _ = await asyncio.gather(
            zaki("user", "rm", str(ADA), "--yes", "--json"), remove_once_it_is_wished()
        )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await router.close()
    assert code == 0
    assert json.loads(out)["removed"][0] == f"the container {ID}"
    assert await _left(database) == NOTHING


@pytest.mark.usefixtures("ada")
async def test_what_takes_too_long_goes_on_later(
    zaki: Zaki, database: Database, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner.busy = True
    monkeypatch.setattr("bot.cli.removal._WITHIN", 1.0)
    code, out, err = await zaki("user", "rm", str(ADA), "--yes")
    assert (code, out) == (1, "")
    assert f"{ID} is still being worked on" in err
    provisioner.busy = False
    code, out, _ = await zaki("user", "rm", str(ADA), "--yes", "--json")
    assert code == 0
    assert json.loads(out)["removed"][0] == f"the container {ID}"
    # The receipt of the first command is nobody's and is swept away.
    assert await _left(database) == {**NOTHING, "announcements": 1}


async def test_a_receipt_that_nobody_fetched_is_swept(
    database: Database, context: FrontContext, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.write() as session:
        await receipts.ask(session, ADA)
        await receipts.hand_over(session, ADA, ["something"])
    inbox = Inbox(context, lambda _: None)
    await inbox.sweep_once()
    assert (await _left(database))["announcements"] == 1
    monkeypatch.setattr("bot.front.inbox.now", lambda: now() + 49 * 3600)
    await inbox.sweep_once()
    assert (await _left(database))["announcements"] == 0


async def test_somebody_without_an_instance_needs_no_docker(zaki: Zaki, database: Database, settings: Settings) -> None:
    async with database.write() as session:
        await people.remember(session, ADA, "Ada")
    code, out, _ = await zaki("user", "rm", str(ADA), "--yes", "--json")
    assert code == 0
    assert json.loads(out)["removed"] == ["the entry with name, language and time zone"]
    assert await _left(database) == NOTHING


async def test_spooled_files_go_too(
    zaki: Zaki, database: Database, provisioner: Provisioner, settings: Settings, ada: User
) -> None:
    spooled: Path = settings.state / "spool" / f"{ID}.0123"
    spooled.parent.mkdir(parents=True)
    spooled.write_bytes(b"x")
    note = {"field": "document", "path": spooled.name, "filename": "x", "content_type": "text/plain", "size": 1}
    async with database.write() as session:
        for row in await session.scalars(select(OutboxMessage).where(OutboxMessage.finished_at.is_(None))):
            row.files = [note]
    code, out, _ = await zaki("user", "rm", str(ADA), "--yes", "--json")
    assert code == 0
    assert "1 file to be sent" in json.loads(out)["removed"]
    assert not spooled.exists()


@pytest.mark.usefixtures("ada")
async def test_whoever_is_suspended_stays_so(zaki: Zaki, database: Database, provisioner: Provisioner) -> None:
    code, _, err = await zaki("user", "suspend", "@ada")
    assert code == 0
    assert "Ada (7000000001) is suspended" in err
    async with database.read() as session:
        user = (await session.scalars(select(User))).one()
        assert (await session.get_one(Wish, user.id)).wanted == Wanted.STOPPED
    code, _, _ = await zaki("user", "rm", str(ADA), "--yes")
    assert code == 0
    assert await _left(database) == {**NOTHING, "users": 1}
    async with database.read() as session:
        user = (await session.scalars(select(User))).one()
    assert (user.telegram_id, user.first_name, user.status) == (ADA, "", UserStatus.SUSPENDED)
    assert (await zaki("user", "resume", str(ADA)))[0] == 0
    async with database.read() as session:
        user = (await session.scalars(select(User))).one()
    assert user.status == UserStatus.REFUSED


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", ["rm", "suspend", "resume", "show"])
@pytest.mark.parametrize("who", ["@nobody", "12345", "9" * 30, "²", "u-zzzzzzzzzz"])
async def test_nobody_is_a_failure_with_a_sentence(zaki: Zaki, command: str, who: str) -> None:
    code, out, err = await zaki("user", command, who, *(["--yes"] if command == "rm" else []))
    assert (code, out) == (1, "")
    assert f"Nobody is known as {who}" in err
