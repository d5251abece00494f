"""`scripts/run` looks at its options before it sets anything up, and then runs the demo or the service."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The script in a project in which everything that it calls prints its name and words."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(PROJECT / "scripts" / "run", tmp_path / "scripts" / "run")
    for name in ("scripts/setup", ".venv/bin/zaki", ".venv/bin/python"):
        program = tmp_path / name
        ending = "exit 1" if program.name == "python" else f'printf "%s\\n" "{program.name}" "$@"'
        program.write_text(f"#!/bin/sh\n{ending}\n")
        program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}

    def call(*words: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = clean if token is None else {**clean, "ZAKI_TELEGRAM_TOKEN": token}
        return subprocess.run(
            [str(tmp_path / "scripts" / "run"), *words], env=environment, capture_output=True, text=True, check=False
        )

    return call


@pytest.mark.parametrize("words", [["--help"], ["--port", "0", "--help"]])
def test_help_is_its_own_and_sets_nothing_up(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "zaki demo" not in done.stdout
    for option in ("scripts/run", "--say", "--clean", "--port", "--json", "--yes", "--role", "ZAKI_TELEGRAM_TOKEN"):
        assert option in done.stdout
    assert "pipefail" not in done.stdout


def test_every_option_of_the_demo_is_in_its_help(run: Run) -> None:
    import typer.main

    from bot.cli import app

    root = typer.main.get_command(app)
    known = {
        option
        for name in ("demo", "serve")
        for parameter in getattr(root, "commands", {})[name].params
        for option in parameter.opts
    }
    assert known
    assert {option for option in known if option not in run("--help").stdout} == set()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--frobnicate"], "scripts/run has no option --frobnicate."),
        (["hello"], "scripts/run has no option hello."),
        (["--say", ""], "--say needs some text."),
        (["--say=  "], "--say needs some text."),
        (["--say"], "--say needs a value."),
        (["--port", "soon"], "--port soon is no port"),
        (["--port=65536"], "--port 65536 is no port"),
        (["--clean=yes"], "--clean takes no value."),
        (["--say", "hello", "--clean"], "do not go together"),
        (["--role", "front"], "ZAKI_TELEGRAM_TOKEN"),
        (["--role", "cook"], "--role cook is no part"),
    ],
)
def test_wrong_options_are_a_sentence_before_anything_is_set_up(run: Run, words: list[str], sentence: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["--json"], ["--yes"], ["--port", "0", "--role", "front"]])
def test_options_of_the_other_one_are_refused_where_there_is_a_token(run: Run, words: list[str]) -> None:
    done = run(*words, token="123456789:AAtests-only")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "token", "called"),
    [
        ([], None, ["zaki", "demo"]),
        ([], "", ["zaki", "demo"]),
        ([], "123456789:AAtests-only", ["zaki", "serve"]),
        (["--role", "front"], "123456789:AAtests-only", ["zaki", "serve", "--role", "front"]),
        (["--say", "two words", "--json"], None, ["zaki", "demo", "--say", "two words", "--json"]),
        (["--say=--clean"], None, ["zaki", "demo", "--say=--clean"]),
        (["--clean", "--yes"], "123456789:AAtests-only", ["zaki", "demo", "--clean", "--yes"]),
    ],
)
def test_what_it_runs(run: Run, words: list[str], token: str | None, called: list[str]) -> None:
    done = run(*words, token=token)
    assert (done.returncode, done.stdout.splitlines()) == (0, called)
    assert done.stderr.splitlines()[0] == "setup"
