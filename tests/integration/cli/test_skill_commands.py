"""`zaki skill`, as an operator uses it beside a service or without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bot.cli import run
from bot.skills import locks
from bot.skills.names import Reference, SkillName
from bot.standins.registry import Fault, Registry, registry_app, samples
from bot.standins.serving import running
from bot.store import Database

Zaki = Callable[..., Any]
TIDES = "@samples/tide-tables"


@contextmanager
def served(registry: Registry) -> Iterator[str]:
    """The registry on a loop of its own, since commands bring theirs."""
    loop, ready, stop, urls = asyncio.new_event_loop(), asyncio.Event(), asyncio.Event(), []

    async def serve() -> None:
        async with running(registry_app(registry)) as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    thread = Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    asyncio.run_coroutine_threadsafe(ready.wait(), loop).result(10)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture
def registry() -> Registry:
    """One with all samples."""
    return Registry(samples())


@pytest.fixture
def state(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service that was started once, whose registry is the stand-in."""
    monkeypatch.chdir(tmp_path)
    with served(registry) as url:
        monkeypatch.setenv("ZAKI_STATE", str(tmp_path))
        monkeypatch.setenv("ZAKI_SKILLS_URL", url)
        monkeypatch.delenv("ZAKI_DATABASE_URL", raising=False)
        in_database(tmp_path, lambda database: database.migrate())
        yield tmp_path


def in_database(state: Path, work: Callable[[Database], Any]) -> Any:
    async def do() -> Any:
        database = Database(f"sqlite+aiosqlite:///{state / 'db' / 'zaki.sqlite3'}")
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(do())


def give(state: Path, instance_id: str, version: str = "1.0.0") -> None:
    """An instance has the tides."""

    async def note(database: Database) -> None:
        async with database.write() as session:
            reference = Reference(SkillName("samples", "tide-tables"), version)
            await locks.settle(session, instance_id, reference, "sha256:0")

    in_database(state, note)


@pytest.fixture
def zaki(state: Path, capfd: pytest.CaptureFixture[str]) -> Zaki:
    """Run a command; its exit code, and what it printed as JSON."""

    def call(*words: str, code: int = 0) -> Any:
        assert run(["skill", *words, "--json"]) == code
        out = capfd.readouterr().out
        return json.loads(out) if out else None

    return call


def said(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capfd.readouterr()
    assert run(["skill", *words]) == code
    return capfd.readouterr().err


def test_a_skill_is_found_vetted_and_listed(zaki: Zaki, registry: Registry) -> None:
    (found,) = zaki("search", "tide")
    assert (found["skill"], found["known"]) == (TIDES, "not vetted yet")
    vetted = zaki("vet", TIDES)
    assert [row["verdict"] for row in vetted["versions"]] == ["passed"]
    (listed,) = zaki("ls")
    assert (listed["skill"], listed["version"], listed["instances"]) == (TIDES, "1.0.0", 0)
    assert zaki("search", "tide")[0]["known"] == "passed"
    registry.faults["*"] = Fault(status=503)
    assert [row["skill"] for row in zaki("search", "tide")] == [TIDES]


def test_a_refusal_is_shown_and_has_its_exit_code(zaki: Zaki, capfd: pytest.CaptureFixture[str]) -> None:
    refused = zaki("vet", "@samples/quick-setup@1.0.0", code=3)
    assert [reason["check"] for reason in refused["reasons"]] == ["content"]
    assert "runs what it downloads" in said(capfd, "vet", "@samples/quick-setup", code=3)
    assert zaki("show", "@samples/quick-setup")["versions"][0]["verdict"] == "refused"
    assert "no such skill" in said(capfd, "vet", "@samples/never-was", code=1)
    assert "was never asked for" in said(capfd, "show", "@samples/never-was", code=1)
    assert "write it like @owner/name" in said(capfd, "show", "tides", code=2)


def test_rules_are_made_shown_and_taken_back(zaki: Zaki, capfd: pytest.CaptureFixture[str]) -> None:
    zaki("vet", "@samples/githubb", code=3)
    assert "is allowed" in said(capfd, "allow", "@samples/githubb", "--reason", "we know them")
    assert zaki("vet", "@samples/githubb")["reasons"][0]["overruled"] is True
    assert "is denied" in said(capfd, "deny", "@samples/githubb@1.0.0")
    zaki("vet", "@samples/githubb", code=3)
    assert [rule["effect"] for rule in zaki("show", "@samples/githubb")["rules"]] == ["allow", "deny"]
    said(capfd, "deny", "@samples/githubb@1.0.0", "--undo")
    zaki("vet", "@samples/githubb")
    assert "There is no rule" in said(capfd, "deny", "@samples/githubb@1.0.0", "--undo", code=1)


def test_a_recall_asks_first_and_names_who_has_it(zaki: Zaki, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zaki("vet", TIDES)
    give(state, "u-aaaaaaaaaa")
    assert "add --yes" in said(capfd, "recall", TIDES, code=2)
    done = zaki("recall", TIDES, "--reason", "It lies.", "--yes")
    assert done["instances"] == ["u-aaaaaaaaaa"]
    shown = zaki("show", TIDES)
    assert shown["versions"][0]["verdict"] == "recalled"
    assert shown["recalls"][0]["reason"] == "It lies."
    assert shown["instances"][0]["to_be_removed_since"]
    assert "It lies." in said(capfd, "vet", TIDES, code=3)
    assert "recall is taken back" in said(capfd, "allow", TIDES)
    zaki("vet", TIDES)
    assert zaki("show", TIDES)["instances"][0]["to_be_removed_since"] is None


def test_a_recall_without_a_reason_is_told_as_a_sentence_of_its_own(zaki: Zaki, state: Path) -> None:
    zaki("vet", TIDES)
    reason = str(zaki("recall", TIDES, "--yes")["reason"])
    assert (reason[0].isupper(), reason[-1]) == (True, ".")


def test_sync_recalls_what_turned_bad_and_tells_what_is_gone(
    zaki: Zaki, state: Path, registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    zaki("vet", TIDES)
    zaki("vet", "@samples/unit-converter")
    give(state, "u-aaaaaaaaaa")
    assert zaki("sync") == []
    registry.turn("@samples/unit-converter", "2.0.1", "malicious", "scan:malicious")
    registry.remove(TIDES)
    changes = {row["skill"]: row["recalled"] for row in zaki("sync")}
    assert changes == {f"{TIDES}@1.0.0": False, "@samples/unit-converter@2.0.1": True}
    registry.faults["*"] = Fault(status=429, retry_after=5)
    assert "enough requests" in said(capfd, "sync", code=1)
