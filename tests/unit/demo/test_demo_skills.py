"""Where the demo's skills come from."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from bot.demo.settings import NO_SETS, SETS, demo_settings
from bot.hostfacts import HostFacts
from bot.settings import Settings
from bot.skills.sets import SkillSets, load
from bot.standins.registry import samples

REGISTRY = "http://127.0.0.1:8092"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("ZAKI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def settings(tmp_path: Path, sets: Path | None = None) -> Settings:
    host = HostFacts(
        network="zaki0",
        bridge="zaki0",
        subnet=IPv4Network("127.0.0.0/8"),
        gateway=IPv4Address("127.0.0.1"),
        docker_range=IPv4Network("127.255.0.0/16"),
        image="sha256:" + "0" * 64,
        runtime="runc",
    )
    return demo_settings(tmp_path / "state", "http://127.0.0.1:9", "1:demo", host, registry=REGISTRY, sets=sets)


def test_from_its_own_registry(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert (found.skills_url, found.skill_sets) == (REGISTRY, SETS)
    there = {skill.name for skill in samples()}
    sets = load(SETS)
    named = {str(skill.name) for need in sets.needs for skill in need.skills}
    recommended = {str(skill.name) for skill in sets.of_plan("standard")}
    assert named
    assert recommended
    assert named | recommended <= there


def test_without_recommended_ones_for_a_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAKI_SKILL_SETS", str(SETS))
    found = settings(tmp_path, NO_SETS)
    assert (found.skills_url, load(found.skill_sets)) == (REGISTRY, SkillSets())


def test_from_the_operators_where_they_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAKI_SKILLS_URL", "https://clawhub.example")
    found = settings(tmp_path)
    assert (found.skills_url, found.skill_sets) == ("https://clawhub.example", None)
    monkeypatch.setenv("ZAKI_SKILLS_URL", "")
    assert settings(tmp_path).skills_url is None
