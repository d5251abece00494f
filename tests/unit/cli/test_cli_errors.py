"""How commands end: exit codes, and one sentence on standard error."""

from __future__ import annotations

import errno
import tomllib
from pathlib import Path

import pytest

from bot.cli import run
from bot.cli.errors import explain
from bot.cli.output import CliError, ExitCode
from bot.demo.lock import DemoLock
from bot.listeners import ListenError
from bot.provisioner.lease import LeaseHeld
from bot.settings import SettingsError


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `.env`, no settings and no cache of the person who runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith("ZAKI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZAKI_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["instance", "ls", "--help"]])
def test_help_is_no_failure(words: list[str]) -> None:
    assert run(words) == ExitCode.DONE


def test_the_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    assert run(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out == f"zaki {project['version']}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["user", "ls", "--frobnicate"],
        ["instance", "show"],
        ["invite", "--uses", "0"],
        ["invite", "--expires", "soon"],
        ["serve", "--role", "cook"],
        ["demo", "--say", "hello", "--clean"],
        ["demo", "--say", " "],
        ["demo", "--port", "65536"],
    ],
)
def test_wrong_usage_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert "Traceback" not in err


def test_a_token_is_needed_to_serve_and_nothing_is_touched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["serve"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "ZAKI_TELEGRAM_TOKEN" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("ZAKI_LISTEN", "here"), ("ZAKI_ADMISSION", "some"), ("ZAKI_MODEL", "m"), ("ZAKI_PUBLIC_URL", "http://x.org")],
)
def test_a_wrong_setting_is_named_and_nothing_is_touched(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ZAKI_TELEGRAM_TOKEN", "123456789:AAtests-only-not-a-real-token-000000")
    monkeypatch.setenv(name, value)
    assert run(["serve"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert name in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_was_not_declared_is_wrong_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZAKI_TELEGRAM_TOKEN", "123456789:AAtests-only-not-a-real-token-000000")
    assert run(["serve"]) == ExitCode.USAGE
    assert "zaki host up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["user", "ls"], ["instance", "ls", "--json"], ["invite", "ls"], ["user", "show", "7"]]
)
def test_without_a_database_the_listings_say_so_and_make_none(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(words) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert "ZAKI_STATE" in err
    assert list(tmp_path.iterdir()) == []


def test_the_environment_of_a_stack_that_is_not_there_makes_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["env"]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert "zaki host up" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["host", "preview"], ["host", "up"], ["host", "down", "--yes"]])
def test_a_demos_host_is_left_to_the_demo(words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with DemoLock(tmp_path / "state").hold():
        pass
    before = sorted((tmp_path / "state").rglob("*"))
    assert run(words) == ExitCode.REFUSED
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{tmp_path / 'state'} is a demo's" in err
    assert "scripts/run" in err
    assert sorted((tmp_path / "state").rglob("*")) == before


def test_the_demos_state_is_hinted_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("ZAKI_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "zaki" / "demo" / "db").mkdir(parents=True)
    assert run(["instance", "ls"]) == ExitCode.FAILED
    assert f"ZAKI_STATE={tmp_path / 'home' / 'zaki' / 'demo'}" in capsys.readouterr().err


class PolicyViolation(Exception):
    """Stands for the one of `infra`, which needs Pulumi to be imported."""


PolicyViolation.__module__ = "infra.checks"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("ZAKI_X: wrong."), ExitCode.USAGE),
        (CliError("No.", ExitCode.REFUSED), ExitCode.REFUSED),
        (ListenError("In use."), ExitCode.FAILED),
        (LeaseHeld("Busy."), ExitCode.FAILED),
        (PolicyViolation("No stack may do that."), ExitCode.REFUSED),
    ],
)
def test_our_own_errors_are_their_sentences(error: Exception, code: ExitCode) -> None:
    assert explain(error) == (str(error), code)


def test_a_full_disk_is_told_in_a_sentence() -> None:
    sentence, code = explain(OSError(errno.ENOSPC, "No space left on device", "/state/db"))
    assert sentence.startswith("/state/db: No space left on device")
    assert code is ExitCode.FAILED


def test_what_nobody_expected_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        sentence, code = explain(error)
    assert code is ExitCode.FAILED
    (report,) = (tmp_path / "cache" / "zaki" / "log").iterdir()
    assert str(report) in sentence
    assert "KeyError" in report.read_text()
