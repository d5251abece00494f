"""The manual and the commands agree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bot.cli import app

PROJECT = Path(__file__).resolve().parents[3]
MANUALS = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")])
ROOT: Any = typer.main.get_command(app)
MENTION = re.compile(r"(?:^|[`(\s])(zaki (?:[a-z]|--)[^`\n#|;&)]*)")


def commands(command: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    if not hasattr(command, "commands") or command.invoke_without_command:
        yield path, command


def options(command: Any) -> set[str]:
    return {"--help", *(option for parameter in command.params for option in parameter.opts if option.startswith("-"))}


def code(manual: Path) -> Iterator[str]:
    """Lines of code blocks, and code in running text."""
    text = manual.read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def mistakes(words: list[str]) -> str | None:
    """What is wrong with a call of `zaki`, as far as its names tell."""
    command = ROOT
    for word in words:
        inner = getattr(command, "commands", {})
        if word in inner:
            command = inner[word]
        elif word.startswith("-"):
            if word.partition("=")[0] not in options(command):
                return f"no option {word}"
        elif inner and not re.search(r"[|<\[…]", word) and (command is ROOT or not command.params):
            return f"no command {word}"
    return None


def name_of(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_command_in_the_manual_exists(manual: Path) -> None:
    wrong = {}
    for line in code(manual):
        for mention in MENTION.findall(line):
            # A shell's comment and quotes end with the line.
            words = shlex.split(mention, posix=False)[1:]
            if (mistake := mistakes(words)) is not None:
                wrong[mention] = mistake
    assert wrong == {}


def test_the_check_of_the_manual_finds_mistakes() -> None:
    assert mistakes(["instance", "ls", "--json"]) is None
    assert mistakes(["instance", "show", "u-abc", "--env"]) is None
    assert mistakes(["instance", "fly"]) == "no command fly"
    assert mistakes(["user", "ls", "--frobnicate"]) == "no option --frobnicate"
    assert mistakes(["frobnicate"]) == "no command frobnicate"


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=name_of)
def test_every_command_says_what_it_does(path: tuple[str, ...], command: Any) -> None:
    assert command.help, path
    undocumented = [p.name for p in command.params if getattr(p, "help", None) is None and p.name != "help"]
    assert undocumented == []


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=name_of)
def test_what_lists_or_shows_has_json_and_what_deletes_has_yes(path: tuple[str, ...], command: Any) -> None:
    if path[-1] in ("ls", "show", "preview", "doctor", "invite"):
        assert "--json" in options(command)
    if path[-1] in ("rm", "down", "demo"):
        assert "--yes" in options(command)
