"""The operator lists somebody's skills, adds and removes some, and sees the sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bot.cli import run
from bot.cli.output import ExitCode
from bot.settings import Settings
from bot.skills import holdings
from bot.store import Database, now
from bot.store.tables import Instance, SkillState, SkillStatus, SkillWish, User, UserStatus, Wanted
from bot.users import people

ADA = 7_000_000_001
ID = "u-aaaaaaaaaa"

Zaki = Callable[..., Any]


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
async def ada(database: Database) -> User:
    """Somebody with an instance."""
    async with database.write() as session:
        user = await people.remember(session, ADA, "Ada", "ada")
        user.status = UserStatus.ACTIVE
        await people.wish(session, user, Wanted.AWAKE)
        session.add(Instance(id=ID, user_id=user.id, plan="standard", image="sha256:0", created_at=now()))
        return user


async def test_wishes_of_the_operator(database: Database, zaki: Zaki, ada: User) -> None:
    code, out, _ = await zaki("user", "skills", "@ada", "--json")
    assert (code, json.loads(out)) == (ExitCode.DONE, [])
    words = ("--add", "@samples/tide-tables@1.0.0", "--add", "@samples/unit-converter")
    code, out, _ = await zaki("user", "skills", ID, *words, "--json")
    assert code == ExitCode.DONE
    listed = {row["skill"]: row for row in json.loads(out)}
    assert {name: (row["policy"], row["source"], row["wanted"]) for name, row in listed.items()} == {
        "@samples/tide-tables": ("pin", "operator", True),
        "@samples/unit-converter": ("patch", "operator", True),
    }
    async with database.write() as session:
        wish = await session.get_one(SkillWish, (ada.id, "samples", "tide-tables"))
        assert wish.version == "1.0.0"
        state = SkillState(instance_id=ID, owner="samples", slug="unit-converter", state=SkillStatus.INSTALLED)
        state.version, state.detail, state.updated_at = "2.0.1", "", now()
        session.add(state)
    await zaki("user", "skills", "@ada", "--add", "@samples/tide-tables", "--policy", "latest")
    code, out, _ = await zaki("user", "skills", "@ada", "--remove", "@samples/unit-converter", "--json")
    listed = {row["skill"]: row for row in json.loads(out)}
    assert (listed["@samples/unit-converter"]["wanted"], listed["@samples/unit-converter"]["version"]) == (
        False,
        "2.0.1",
    )
    assert listed["@samples/tide-tables"]["policy"] == "latest"
    async with database.write() as session:
        wish = await session.get_one(SkillWish, (ada.id, "samples", "tide-tables"))
        assert wish.version is None
        # What was chosen stays where a wish is repeated.
        assert [one.policy for one in await holdings.of_person(session, ada.id)] == ["latest", "patch"]


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--add", "tides"), ExitCode.USAGE, "write it like @owner/name"),
        (("--policy", "latest"), ExitCode.USAGE, "--add"),
        (("--add", "@samples/tides@1.0.0", "--policy", "latest"), ExitCode.USAGE, "pin"),
    ],
)
async def test_a_mistake_changes_nothing(
    database: Database, zaki: Zaki, words: tuple[str, ...], code: ExitCode, says: str
) -> None:
    found, _, err = await zaki("user", "skills", str(ADA), *words)
    assert found == code
    assert says in err
    async with database.read() as session:
        assert (await session.scalars(select(SkillWish))).all() == []


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sets_are_printed(zaki: Zaki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = tmp_path / "sets.toml"
    sets.write_text(
        '[plans]\nstandard = ["@samples/tides@1.0.0"]\n'
        '[needs.units]\ntitle = "Units"\nsays = "Converts."\nskills = ["@samples/units"]\n'
    )
    monkeypatch.setenv("ZAKI_SKILL_SETS", str(sets))
    code, out, _ = await zaki("skill", "sets", "--json")
    assert code == ExitCode.DONE
    assert [(row["kind"], row["set"], row["skill"], row["version"], row["known"]) for row in json.loads(out)] == [
        ("need", "units", "@samples/units", None, "not vetted yet"),
        ("plan", "standard", "@samples/tides", "1.0.0", "not vetted yet"),
    ]
    sets.write_text("[plans")
    code, _, err = await zaki("skill", "sets")
    assert code == ExitCode.FAILED
    assert "no TOML" in err
