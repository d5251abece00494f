"""Docker's settings: merged into those that are there, and taken out again."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from infra import runtime
from infra.runtime import RuntimeSpec

OURS = dict(runtime.render_settings(RuntimeSpec()))


def _bash(script: str, tmp_path: Path, part: str) -> str:
    """Run one of the script's Python parts on a `daemon.json` of the test's own."""
    _, opening, rest = script.partition(part)
    program = (opening + rest.partition("\nPYTHON\n")[0] + "\nPYTHON\n").replace(
        "/etc/docker/daemon.json", str(tmp_path / "daemon.json")
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=f"record={tmp_path}\n{program}",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def _merge(tmp_path: Path, spec: RuntimeSpec | None = None) -> str:
    return _bash(runtime.render_do(spec or RuntimeSpec()), tmp_path, 'python3 - "$record')


def _unmerge(tmp_path: Path) -> str:
    return _bash(runtime.render_undo(), tmp_path, 'python3 - "$record')


def _found(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "daemon.json").read_text())


def test_settings_of_others_stay_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text('{"registry-mirrors": ["https://m.example"], "log-driver": "journald"}')
    assert _merge(tmp_path) == ""
    assert _found(tmp_path) == {"registry-mirrors": ["https://m.example"], **OURS}


def test_undo_gives_back_what_ours_replaced(tmp_path: Path) -> None:
    before = {"registry-mirrors": ["https://m.example"], "log-driver": "journald"}
    (tmp_path / "daemon.json").write_text(json.dumps(before))
    _merge(tmp_path)
    _merge(tmp_path, RuntimeSpec(log_size="20m"))
    assert _unmerge(tmp_path) == ""
    assert _found(tmp_path) == before


def test_undo_keeps_what_somebody_changed_since(tmp_path: Path) -> None:
    _merge(tmp_path)
    changed = {**_found(tmp_path), "log-driver": "syslog", "debug": True}
    (tmp_path / "daemon.json").write_text(json.dumps(changed))
    _unmerge(tmp_path)
    assert _found(tmp_path) == {"log-driver": "syslog", "debug": True}


def test_file_that_was_not_there_is_gone_again(tmp_path: Path) -> None:
    _merge(tmp_path)
    _unmerge(tmp_path)
    assert not (tmp_path / "daemon.json").exists()


def test_settings_that_are_no_json_are_left_and_told(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text("{oops")
    assert "is no JSON: mend it, then try again." in _merge(tmp_path)
    assert (tmp_path / "daemon.json").read_text() == "{oops"


def test_check_names_the_setting_that_differs(tmp_path: Path) -> None:
    _merge(tmp_path)
    check = runtime.render_check(RuntimeSpec())
    assert _bash(check, tmp_path, "python3 - <<") == ""
    (tmp_path / "daemon.json").write_text(json.dumps({**OURS, "live-restore": False}))
    assert _bash(check, tmp_path, "python3 - <<").strip().endswith("daemon.json has another live-restore")


#: Stands in for the machine; what Docker's unit is told is in the file `said`.
_MACHINE = """\
apt_install() {{ [[ $1 != docker.io || ! -e {folder}/no-packages ]]; }}
fail() {{ echo "$1" >&2; exit 1; }}
systemctl() {{ echo "$*" >>{folder}/said; }}
command() {{ [[ $2 != dockerd ]]; }}
dockerd() {{ :; }}
timeout() {{ :; }}
iptables() {{ :; }}
record={folder}
"""


def _do(tmp_path: Path) -> tuple[int, int]:
    """Run the whole step; its exit code, and how often Docker was restarted so far."""
    script = runtime.render_do(RuntimeSpec()).replace("/etc/docker/daemon.json", str(tmp_path / "daemon.json"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=_MACHINE.format(folder=tmp_path) + script,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (tmp_path / "said").read_text() if (tmp_path / "said").exists() else ""
    return done.returncode, said.splitlines().count("restart docker.service")


def test_docker_starts_anew_after_a_step_that_failed_in_between_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "no-packages").touch()
    assert _do(tmp_path) == (1, 0)
    (tmp_path / "no-packages").unlink()
    assert _do(tmp_path) == (0, 1)
    assert _do(tmp_path) == (0, 1)


def test_dockers_own_networks_are_apart_from_the_instances() -> None:
    assert not RuntimeSpec().pool.overlaps(IPv4Network("10.86.0.0/16"))


@pytest.mark.parametrize(
    "script", [runtime.render_do(RuntimeSpec()), runtime.render_undo(), runtime.render_check(RuntimeSpec())]
)
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
