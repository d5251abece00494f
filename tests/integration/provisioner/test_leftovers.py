"""What a crash left behind is found, on both databases; Docker itself is looked at in the end-to-end tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.cli.doctor import leftovers_checks
from bot.provisioner import leftovers
from bot.provisioner.lease import new_owner
from bot.provisioner.leftovers import Kind, find_leftovers
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import Address, Instance, Operation, OperationKind, OutboxMessage, User, Wanted, Wish

ID, OTHER = "u-aaaaaaaaaa", "u-bbbbbbbbbb"
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(make_settings: MakeSettings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A state folder of a host that is not declared, and no Docker."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(leftovers, "_BETWEEN", 0.05)
    return make_settings(database_url=database.url.render_as_string(hide_password=False))


async def found(settings: Settings) -> str:
    """What is told of the leftovers, in one text."""
    return "; ".join(f"{thing.what}. {thing.cure}" for thing in (await find_leftovers(settings)).leftovers)


async def add(database: Database, *rows: object) -> None:
    async with database.write() as session:
        for row in rows:
            session.add(row)
            await session.flush()


def instance(instance_id: str = ID, **columns: object) -> Instance:
    return Instance(id=instance_id, plan="standard", image="sha256:0", created_at=now(), **columns)


def stack(settings: Settings, instance_id: str = ID) -> Path:
    folder = settings.state / "stacks" / instance_id
    folder.mkdir(parents=True)
    return folder


async def test_nothing_is_left_where_nothing_ever_was(settings: Settings) -> None:
    assert not (await find_leftovers(settings)).leftovers


async def test_a_state_folder_without_a_database_gets_none(make_settings: MakeSettings) -> None:
    settings = make_settings()
    stack(settings)
    assert ID in await found(settings)
    assert not (settings.state / "db").exists()


async def test_a_stack_and_its_instance_belong_together(settings: Settings, database: Database) -> None:
    folder = stack(settings)
    told = await found(settings)
    assert f"{folder} belongs to no instance" in told
    await add(database, instance(declared_hash="0"))
    assert await found(settings) == ""
    folder.rmdir()
    assert f"zaki instance up {ID}" in await found(settings)


async def test_what_is_being_deleted_may_miss_its_stack(settings: Settings, database: Database) -> None:
    user = User(telegram_id=7, created_at=now())
    await add(database, user)
    await add(
        database,
        Wish(user_id=user.id, wanted=Wanted.ABSENT, asked_at=now()),
        instance(declared_hash="0", user_id=user.id),
    )
    assert await found(settings) == ""


async def test_a_dead_engines_lock_is_told_and_a_living_ones_is_not(settings: Settings, database: Database) -> None:
    await add(database, instance(declared_hash="0"))
    lock = stack(settings) / "backend/.pulumi/locks/organization/zaki" / ID / "1.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"hostname": "elsewhere", "pid": 1}))
    assert await found(settings) == ""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    lock.write_text(json.dumps({"hostname": socket.gethostname(), "pid": done.pid}))
    assert str(lock) in await found(settings)


async def test_a_pending_operation_of_the_engine_is_told(settings: Settings, database: Database) -> None:
    await add(database, instance(declared_hash="0"))
    checkpoint = stack(settings) / "backend/.pulumi/stacks/zaki" / f"{ID}.json"
    checkpoint.parent.mkdir(parents=True)
    latest = {"resources": [], "pending_operations": [{"type": "creating"}]}
    checkpoint.write_text(json.dumps({"checkpoint": {"latest": latest}}))
    assert "did not see end" in await found(settings)
    checkpoint.write_text("{half of a che")
    assert str(checkpoint) in await found(settings)


async def test_an_open_operation_needs_somebody_at_work(settings: Settings, database: Database) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    await add(
        database,
        instance(lease_owner=new_owner(), lease_until=now() + 30),
        instance(OTHER, lease_owner=f"{socket.gethostname()[:32]}:{dead.pid}:0", lease_until=now() + 30),
        Operation(instance_id=ID, kind=OperationKind.CREATE, started_at=now()),
        Operation(instance_id=OTHER, kind=OperationKind.CREATE, started_at=now()),
    )
    told = await found(settings)
    assert OTHER in told
    assert ID not in told


async def test_a_file_that_no_message_waits_with_is_told(settings: Settings, database: Database) -> None:
    spool = settings.state / "spool"
    spool.mkdir(parents=True)
    long_ago = time.time() - 3600
    for name in ("wanted", "orphan", "arriving"):
        (spool / f"{ID}.{name}").write_bytes(b"x")
    for name in ("wanted", "orphan"):
        os.utime(spool / f"{ID}.{name}", (long_ago, long_ago))
    note = {"field": "document", "path": f"{ID}.wanted", "filename": "a", "content_type": "text/plain", "size": 1}
    await add(
        database,
        OutboxMessage(chat_id=7, method="sendDocument", params={}, files=[note], created_at=now()),
    )
    told = await found(settings)
    assert f"{ID}.orphan" in told
    assert "wanted" not in told
    assert "arriving" not in told
    assert len(list(spool.iterdir())) == 3


async def test_what_cannot_be_looked_at_is_said(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    settings = make_settings(database_url="postgresql://nobody@127.0.0.1:9/zaki")
    settings.state.mkdir(parents=True)
    facts = {"network": "n", "bridge": "n", "subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}
    more = {"docker_range": "10.9.0.128/25", "image": "sha256:0", "runtime": "runc"}
    (settings.state / "host.json").write_text(json.dumps(facts | more))
    [check] = leftovers_checks(await find_leftovers(settings))
    assert check.warning
    assert "the database does not answer" in check.found
    assert "Docker does not answer" in check.found


async def test_an_archive_of_nobody_may_hold_somebodys_files(settings: Settings, database: Database) -> None:
    (settings.state / "archives" / ID).mkdir(parents=True)
    (settings.state / "archives" / "lost+found").mkdir()
    told = await found(settings)
    assert f"the archive of {ID} belongs to no instance" in told
    assert f"zaki instance adopt {ID}" in told
    assert f"zaki doctor --fix {ID}" in told
    await add(database, instance(archive="a" * 64))
    assert await found(settings) == ""


async def test_without_docker_all_may_hold_files(settings: Settings, database: Database) -> None:
    stack(settings)
    (settings.state / "archives" / ID).mkdir(parents=True)
    kinds = {thing.what: thing.kind for thing in (await find_leftovers(settings)).leftovers}
    # Without Docker's word for it nobody knows whether there is a volume, so all may hold files.
    assert set(kinds.values()) == {Kind.STRANGER}
    assert len(kinds) == 2


async def test_an_address_of_nobody_is_told(settings: Settings, database: Database) -> None:
    await add(
        database,
        instance(),
        Address(address="10.9.0.2", number=1, instance_id=ID),
        Address(address="10.9.0.3", number=2, instance_id=OTHER),
        Address(address="10.9.0.4", number=3, instance_id=None, released_at=now()),
    )
    told = await found(settings)
    assert "10.9.0.3" in told
    assert "10.9.0.2" not in told
    assert "10.9.0.4" not in told


async def test_an_operation_on_what_is_gone_is_told(settings: Settings, database: Database) -> None:
    await add(database, Operation(instance_id=ID, kind=OperationKind.CREATE, started_at=now()))
    assert "zaki doctor --fix" in await found(settings)
