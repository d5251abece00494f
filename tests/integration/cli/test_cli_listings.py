"""What the commands say about a database with people, instances and codes in it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from bot.cli import run
from bot.credentials import load_key
from bot.provisioner.decision import Request
from bot.store import Database, now
from bot.store.tables import (
    ContainerState,
    Decision,
    Instance,
    Invite,
    Operation,
    OperationKind,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.timeline import Stage, note

AWAKE, CREATING, FAILED = "u-aaaaaaaaaa", "u-bbbbbbbbbb", "u-cccccccccc"


@pytest.fixture
def zaki(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs a command against the test's database: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZAKI_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ZAKI_DATABASE_URL", database_url)

    async def command(*words: str) -> tuple[int, str, str]:
        # Commands bring an event loop of their own.
        code = await asyncio.to_thread(run, words)
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
async def people(database: Database) -> None:
    """Four people: one awake, one being created, one failed, one without an instance."""
    async with database.write() as session:
        users = [
            User(telegram_id=7_000_000_001 + index, first_name=name, username=name.lower(), created_at=now() + index)
            for index, name in enumerate(("Ada", "Ben", "Cleo", "[bold]Dan"))
        ]
        users[0].status = UserStatus.ACTIVE
        session.add_all(users)
        await session.flush()
        instances = [
            Instance(
                id=name,
                user_id=user.id,
                plan="standard",
                address=f"10.86.0.{index + 2}",
                image="sha256:" + "0" * 64,
                container=ContainerState.RUNNING if name == AWAKE else ContainerState.CREATED,
                ready_at=now() if name == AWAKE else None,
                failure="The gateway ran out of memory; give its plan more." if name == FAILED else None,
                created_at=now() + index,
            )
            for index, (name, user) in enumerate(zip((AWAKE, CREATING, FAILED), users, strict=False))
        ]
        session.add_all(instances)
        session.add(Wish(user_id=users[0].id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(Operation(instance_id=AWAKE, kind=OperationKind.CREATE, started_at=now(), finished_at=now()))
        session.add(Operation(instance_id=CREATING, kind=OperationKind.CREATE, started_at=now(), stage="creating"))
        note(session, users[0].telegram_id, Stage.RECEIVED)
        note(session, users[0].telegram_id, Stage.REPLIED, "u-aaaaaaaaaa")


@pytest.mark.usefixtures("people")
async def test_instances_are_listed_with_their_derived_states(zaki: Callable[..., Any]) -> None:
    code, out, err = await zaki("instance", "ls", "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [(row["id"], row["state"]) for row in rows] == [
        (AWAKE, "awake"),
        (CREATING, "creating"),
        (FAILED, "failed"),
    ]
    assert rows[0]["telegram_id"] == 7_000_000_001
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rows[0]["ready_at"])


@pytest.mark.usefixtures("people")
async def test_the_table_has_a_line_for_each_instance(zaki: Callable[..., Any]) -> None:
    code, out, _ = await zaki("instance", "ls")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[1:]] == [[AWAKE, "awake"], [CREATING, "creating"], [FAILED, "failed"]]
    assert "ran out of memory" in lines[3]


@pytest.mark.usefixtures("people")
async def test_an_instance_is_shown_with_its_operations_and_reason(zaki: Callable[..., Any]) -> None:
    _, out, _ = await zaki("instance", "show", AWAKE, "--json")
    shown = json.loads(out)
    assert shown["wanted"] == "awake"
    assert [operation["kind"] for operation in shown["operations"]] == ["create"]
    _, out, _ = await zaki("instance", "show", FAILED)
    assert "ran out of memory" in out


@pytest.mark.usefixtures("people")
async def test_an_instance_is_shown_with_why_it_rests(zaki: Callable[..., Any], database: Database) -> None:
    async with database.write() as session:
        instance = await session.get_one(Instance, AWAKE)
        instance.resting_since, instance.next_job_at, instance.archive = now(), now() + 60, "a" * 64
        for action, reason in (("nothing", "It is awake."), ("sleep", "It has been idle for 15 minutes.")):
            session.add(
                Decision(instance_id=AWAKE, first_at=now() - 9, at=now(), times=3, action=action, reason=reason)
            )
            await session.flush()
        session.add(Decision(instance_id=FAILED, first_at=now(), at=now(), action="wait", reason="Not this one."))
    _, out, _ = await zaki("instance", "show", AWAKE, "--json")
    shown = json.loads(out)
    assert [(one["action"], one["reason"], one["times"]) for one in shown["decisions"]] == [
        ("nothing", "It is awake.", 3),
        ("sleep", "It has been idle for 15 minutes.", 3),
    ]
    assert (shown["state"], shown["archive"], shown["memory"]) == ("archived", "a" * 64, None)
    assert shown["resting_since"] < shown["next_job_at"]
    _, out, _ = await zaki("instance", "show", AWAKE)
    lines = [line.rstrip() for line in out.splitlines()]
    heading, *rows = lines[lines.index("decisions") + 1 :]
    assert re.split(r" {2,}", heading) == ["first at", "at", "times", "action", "reason"]
    assert [re.split(r" {2,}", row)[2:] for row in rows] == [
        ["3", "nothing", "It is awake."],
        ["3", "sleep", "It has been idle for 15 minutes."],
    ]


@pytest.mark.usefixtures("people")
async def test_who_waits_in_the_pool_is_marked(zaki: Callable[..., Any], database: Database) -> None:
    async with database.write() as session:
        session.add(
            Instance(id="u-dddddddddd", plan="standard", image="sha256:0", created_at=now() + 9, warmed_at=now())
        )
    _, out, _ = await zaki("instance", "ls", "--json")
    *others, member = json.loads(out)
    assert (member["telegram_id"], member["name"]) == (None, "(warm pool)")
    assert all(other["telegram_id"] and other["name"] != "(warm pool)" for other in others)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("who", ["7000000001", "@ada", AWAKE])
async def test_a_person_is_found_by_every_name_of_theirs(zaki: Callable[..., Any], who: str) -> None:
    code, out, _ = await zaki("user", "show", who, "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["telegram_id"], shown["instance"], shown["state"]) == (7_000_000_001, AWAKE, "awake")
    assert [entry["stage"] for entry in shown["timeline"]] == ["received", "replied"]


@pytest.mark.usefixtures("people")
async def test_people_are_listed_and_names_are_no_markup(zaki: Callable[..., Any]) -> None:
    _, out, _ = await zaki("user", "ls", "--json")
    assert [(row["name"], row["state"]) for row in json.loads(out)] == [
        ("Ada", "awake"),
        ("Ben", "creating"),
        ("Cleo", "failed"),
        ("[bold]Dan", "absent"),
    ]
    _, out, _ = await zaki("user", "ls")
    assert "[bold]Dan" in out


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("words", [("user", "show", "@nobody"), ("instance", "show", "u-zzzzzzzzzz")])
async def test_what_is_not_there_is_a_failure_with_a_sentence(zaki: Callable[..., Any], words: list[str]) -> None:
    code, out, err = await zaki(*words)
    assert (code, out) == (1, "")
    assert words[-1] in err
    assert "ls" in err


@pytest.mark.usefixtures("people")
async def test_an_instance_is_not_deleted_unasked(zaki: Callable[..., Any], database: Database) -> None:
    code, _, err = await zaki("instance", "rm", AWAKE)
    assert code == 2
    assert "--yes" in err
    async with database.read() as session:
        assert await session.get(Instance, AWAKE) is not None


@pytest.mark.usefixtures("people")
async def test_a_host_with_instances_is_not_taken_down(zaki: Callable[..., Any]) -> None:
    code, _, err = await zaki("host", "down", "--yes")
    assert code == 3
    assert "3 instances" in err


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    "words",
    [
        ("instance", "preview", AWAKE),
        ("instance", "open", AWAKE),
        ("instance", "wake", AWAKE),
        ("instance", "show", AWAKE, "--env"),
    ],
)
async def test_without_the_services_keys_no_new_ones_are_made(
    zaki: Callable[..., Any], words: list[str], tmp_path: Path
) -> None:
    code, out, err = await zaki(*words)
    assert (code, out) == (1, "")
    assert f"{tmp_path / 'state' / 'keys'}" in err
    assert "ZAKI_STATE" in err
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("verb", ["wake", "sleep", "restart"])
async def test_a_verb_says_its_sentence_and_prints_no_log(
    zaki: Callable[..., Any], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Reconciler:
        async def carry_out(self, instance_id: str, request: Request) -> None:
            structlog.get_logger("bot.provisioner").warning("instance", stage="ready")
            asked.append((instance_id, request.action.value))

    @asynccontextmanager
    async def provisioning(_settings: object, _database: object) -> AsyncIterator[object]:
        yield SimpleNamespace(reconciler=Reconciler())

    monkeypatch.setattr("bot.provisioner.single.provisioning", provisioning)
    for name in ("front", "provisioner", "archive"):
        load_key(tmp_path / "state" / "keys" / f"{name}.key")
    code, out, err = await zaki("instance", verb, AWAKE)
    assert (code, out) == (0, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(AWAKE)
    assert asked == [(AWAKE, verb)]


@pytest.mark.usefixtures("database")
async def test_empty_listings(zaki: Callable[..., Any]) -> None:
    for noun in ("user", "instance", "invite"):
        code, out, err = await zaki(noun, "ls")
        assert (code, out) == (0, "")
        assert err.strip()
        assert (await zaki(noun, "ls", "--json"))[1].strip() == "[]"


async def test_codes_are_made_before_any_service_ran(zaki: Callable[..., Any], database_url: str) -> None:
    code, out, err = await zaki("invite", "--uses", "3", "--expires", "2h", "--count", "2")
    assert (code, err) == (0, "")
    codes = out.split()
    assert len(set(codes)) == 2
    database = Database(database_url)
    try:
        async with database.read() as session:
            found = await session.get_one(Invite, codes[0])
    finally:
        await database.close()
    assert found.uses_left == 3
    assert found.expires_at is not None
    assert round(found.expires_at - found.created_at) == 7200


@pytest.mark.usefixtures("database")
async def test_codes_are_listed_while_they_admit_somebody(zaki: Callable[..., Any], database: Database) -> None:
    _, out, _ = await zaki("invite", "--json", "--expires", "never")
    (made,) = json.loads(out)
    assert made["expires_at"] is None
    async with database.write() as session:
        session.add(Invite(code="used", uses_left=0, created_at=now()))
        session.add(Invite(code="ended", uses_left=1, created_at=now(), expires_at=now() - 1))
    _, out, _ = await zaki("invite", "ls", "--json")
    assert json.loads(out) == [made]
