"""`zaki doctor --fix` without Docker: nothing is anybody's guess, so nothing is changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.cli import run
from bot.credentials import load_key
from bot.store import Database
from bot.store.tables import Address, Instance

ID = "u-aaaaaaaaaa"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a declared host."""
    state = tmp_path / "state"
    state.mkdir()
    facts = {"network": "n", "bridge": "n", "subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}
    more = {"docker_range": "10.9.0.128/25", "image": "sha256:" + "0" * 64, "runtime": "runc"}
    (state / "host.json").write_text(json.dumps(facts | more))
    for name in ("front", "provisioner", "archive"):
        load_key(state / "keys" / f"{name}.key")
    return state


@pytest.fixture
def zaki(
    database_url: str, monkeypatch: pytest.MonkeyPatch, state: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command on a machine whose Docker is away: exit code, standard output, standard error."""
    monkeypatch.chdir(state)
    monkeypatch.setenv("ZAKI_STATE", str(state))
    monkeypatch.setenv("ZAKI_DATABASE_URL", database_url)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    async def command(*words: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(run, words)
        out, err = capsys.readouterr()
        return code, out, err

    return command


async def test_nothing_is_changed_while_not_all_can_be_seen(
    zaki: Callable[..., Any], database: Database, state: Path
) -> None:
    async with database.write() as session:
        session.add(Address(address="10.9.0.2", number=1, instance_id=ID, released_at=None))
    archive = state / "archives" / ID
    archive.mkdir(parents=True)
    for words in (("doctor", "--fix", "--yes"), ("doctor", "--fix", "--yes", ID)):
        code, _, err = await zaki(*words)
        assert code == 1
        assert "Docker does not answer" in err
    assert archive.exists()
    async with database.read() as session:
        assert (await session.get_one(Address, "10.9.0.2")).instance_id == ID


@pytest.mark.usefixtures("database")
async def test_a_name_needs_fix_beside_it(zaki: Callable[..., Any]) -> None:
    code, _, err = await zaki("doctor", ID)
    assert code == 2
    assert "--fix" in err


@pytest.mark.usefixtures("database")
async def test_what_is_no_name_is_wrong_usage(zaki: Callable[..., Any]) -> None:
    code, _, err = await zaki("doctor", "--fix", "../../etc")
    assert code == 2
    assert "no instance's id" in err


async def test_without_a_database_nothing_looks_like_nobodys(
    zaki: Callable[..., Any], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAKI_DATABASE_URL", f"sqlite+aiosqlite:///{state}/db/never.sqlite3")
    (state / "stacks" / ID).mkdir(parents=True)
    code, _, err = await zaki("doctor", "--fix", "--yes")
    assert code == 1
    assert "There is no database" in err
    assert (state / "stacks" / ID).exists()


async def test_verbs_name_an_instance_that_is_not_there(zaki: Callable[..., Any], database: Database) -> None:
    async with database.read() as session:
        assert await session.get(Instance, ID) is None
    for verb in ("wake", "sleep", "restart", "up", "open"):
        code, _, err = await zaki("instance", verb, ID)
        assert code == 1, verb
        assert f"There is no instance {ID}" in err
