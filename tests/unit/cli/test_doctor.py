"""What doctor makes of what it sees."""

import json
from pathlib import Path

import pytest

from bot.cli import doctor
from bot.cli.doctor import Check, DockerFacts, render

HEALTHY = DockerFacts(version="20.10.24+dfsg1", live_restore=True, image="sha256:" + "a" * 64)


@pytest.mark.parametrize(
    "check",
    [
        doctor.python_check((3, 11, 2), "3.11"),
        doctor.docker_check(HEALTHY),
        doctor.docker_check(DockerFacts(version="28.2.2")),
        doctor.limits_check(HEALTHY),
        doctor.live_restore_check(HEALTHY),
        doctor.bridge_check(1),
        doctor.engine_check("v3.274.1", "3.274.1"),
        doctor.program_check("sh", Path("/bin/sh"), ""),
        doctor.image_check(HEALTHY, "zaki/openclaw:1"),
        doctor.restic_check("restic 0.14.0 compiled with go1.19.8 on linux/amd64"),
        doctor.inotify_check(8192, 8192),
        doctor.uid_check(None),
        doctor.swap_check(8 * doctor.GIB, 16 * doctor.GIB),
        doctor.memory_check(doctor.LEAST_MEMORY),
        doctor.disk_check(Path("/"), doctor.LEAST_DISK),
    ],
    ids=lambda check: check.name,
)
def test_what_is_there_is_ok_and_needs_no_cure(check: Check) -> None:
    assert check.ok
    assert not check.failed
    assert not check.cure


@pytest.mark.parametrize(
    "check",
    [
        doctor.python_check((3, 9, 0), "3.11"),
        doctor.docker_check(DockerFacts(error="no socket")),
        doctor.docker_check(DockerFacts(version="19.3.1")),
        doctor.limits_check(DockerFacts(error="no socket")),
        doctor.limits_check(DockerFacts(unlimited=("swap",))),
        doctor.bridge_check(None),
        doctor.bridge_check(0),
        doctor.engine_check("", "3.274.1"),
        doctor.engine_check("v3.274.10", "3.274.1"),
        doctor.program_check("plugin", Path("/nowhere"), "5.2.0"),
        doctor.image_check(DockerFacts(), "zaki/openclaw:1"),
    ],
    ids=lambda check: f"{check.name}: {check.found}",
)
def test_what_zaki_cannot_do_without_fails_with_a_cure(check: Check) -> None:
    assert check.failed
    assert check.cure.endswith(".")


@pytest.mark.parametrize(
    "check",
    [
        doctor.live_restore_check(DockerFacts()),
        doctor.restic_check(""),
        doctor.inotify_check(128, 8192),
        doctor.inotify_check(None, 8192),
        doctor.uid_check("debian"),
        doctor.swap_check(0, 4 * doctor.GIB),
        doctor.swap_check(2 * doctor.GIB, 16 * doctor.GIB),
        doctor.memory_check(doctor.LEAST_MEMORY - 1),
        doctor.disk_check(Path("/"), 0),
    ],
    ids=lambda check: check.name,
)
def test_what_only_makes_zaki_worse_is_a_warning_with_a_cure(check: Check) -> None:
    assert not check.ok
    assert not check.failed
    assert check.cure


@pytest.mark.parametrize(
    ("text", "version"),
    [("20.10.24+dfsg1", (20, 10, 24)), ("28.2.2", (28, 2, 2)), ("3.11", (3, 11)), ("", ()), ("x", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert doctor._version(text) == version


def test_swap_is_told_in_sleepers() -> None:
    assert doctor.swap_check(24 * doctor.GIB, 24 * doctor.GIB).found == "24.0 GiB, enough for 24 sleeping instances"
    assert doctor.swap_check(doctor.GIB // 2, 0).found == "0.5 GiB"


def test_meminfo_is_in_bytes() -> None:
    text = "MemAvailable:    2048 kB\nHugePages_Total:       0\nSwapTotal:          1 kB\n"

    assert doctor._meminfo(text) == {"MemAvailable": 2048 * 1024, "SwapTotal": 1024}


def test_json_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    render([doctor.memory_check(0)], as_json=True)

    [check] = json.loads(capsys.readouterr().out)
    assert check == {
        "name": "Memory",
        "ok": False,
        "warning": True,
        "found": "0.0 GiB available",
        "cure": "Free 2.0 GiB: that is what an awake instance may use.",
    }


def test_the_table_shows_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    render([doctor.bridge_check(0), doctor.python_check((3, 12, 1), "3.11")])

    failed, fine = capsys.readouterr().out.splitlines()
    assert failed.startswith("missing")
    assert "scripts/setup" in failed
    assert fine.split() == ["ok", "Python", "3.12.1"]


async def test_everything_is_looked_at_even_where_nothing_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")

    checks = {check.name: check for check in await doctor.run_checks()}

    assert checks["Python"].ok
    for name in ("Docker Engine", "Pulumi engine", "Docker plugin", "Command plugin", "Image of an instance"):
        assert checks[name].failed, name
