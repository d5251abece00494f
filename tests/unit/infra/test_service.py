"""The files of Zaki's services, and what systemd itself says of them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from infra.configuration import SpecError
from infra.service import Release, ServiceSpec, render_change_over, render_files, render_secrets, render_undo
from infra.units import FRONT, PROVISIONER, SECRETS, TIMERS, render_settings

SPEC = ServiceSpec(
    release=Release("0.1.0-0123456789ab", b"archive"),
    gateway=IPv4Address("10.86.0.1"),
    settings={"ZAKI_PUBLIC_URL": "https://bot.example.org"},
    secrets=frozenset(SECRETS),
)
UNITS = "/etc/systemd/system"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with nothing but these files."""
    root = tmp_path_factory.mktemp("root")
    for path, (text, mode) in render_files(SPEC).items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    program = root / "opt/zaki/current/venv/bin/zaki"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return root


def test_systemd_understands_every_unit(root: Path) -> None:
    units = [path for path in (root / "etc/systemd/system").iterdir() if path.name.startswith("zaki-")]
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}"]
    checked = subprocess.run([*words, *(path.name for path in units)], capture_output=True, text=True, check=False)
    ours = [line for line in checked.stderr.splitlines() if "zaki-" in line]
    assert ours == []


def test_the_front_is_hardened(root: Path) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=30", f"{root}{UNITS}/{FRONT}"]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_provisioner_mounts_where_the_host_sees_it() -> None:
    text = render_files(SPEC)[f"{UNITS}/{PROVISIONER}"][0]
    for setting in ("ProtectSystem=", "ProtectHome=", "PrivateTmp=", "PrivateDevices=", "ProtectKernelTunables="):
        assert setting not in text


def test_secrets_are_in_no_file_and_each_service_gets_its_own() -> None:
    files = {path: text for path, (text, _mode) in render_files(SPEC).items()}
    wanted = {unit: files[f"{UNITS}/{unit}"].count("LoadCredentialEncrypted=") for unit in (FRONT, PROVISIONER)}
    assert wanted == {FRONT: 3, PROVISIONER: 1}
    assert "telegram_token" not in files[f"{UNITS}/{PROVISIONER}"]
    backups = [path for path, text in files.items() if "zaki_backup_env" in text]
    assert sorted(backups) == [f"{UNITS}/zaki-backup.service", "/usr/local/bin/zaki"]


def test_what_root_works_in_is_roots_alone_and_nobody_takes_the_provisioners_socket_away() -> None:
    lines = render_files(SPEC)["/etc/tmpfiles.d/zaki.conf"][0].splitlines()
    for name in (".backup", "backups", "copies", "archives", "stacks"):
        assert f"d /var/lib/zaki/{name} 0700 root root" in lines
    # With the sticky bit, so that what root makes there stays what it is.
    assert "d /var/lib/zaki/run 3770 root zaki" in lines


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    odd = 'a "b" $HOME `c` \\d # e'
    file = tmp_path / "settings"
    file.write_text(render_settings({"ZAKI_MODEL": odd}))
    read = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "$ZAKI_MODEL"'], capture_output=True, text=True, check=True
    )
    assert read.stdout == odd


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"PATH": "/"}, "no setting"),
        ({"ZAKI_TELEGRAM_TOKEN": "1:x"}, "is a secret"),
        ({"ZAKI_MODEL": "a\nZAKI_POOL=1"}, "cannot be printed"),
        ({"ZAKI_BACKUP_ENV": "AWS_ACCESS_KEY_ID=x"}, "is a secret"),
        ({"ZAKI_BACKUP": "rest:https://me:x@b.example/zaki"}, "holds a password"),
    ],
)
def test_settings_that_cannot_be_written_are_refused(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        replace(SPEC, settings=settings)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secrets": frozenset()}, "zaki:telegram_token is unset"),
        ({"secrets": frozenset({"telegram_token", "password"})}, "password is no secret"),
        ({"listen": "0.0.0.0:8080"}, "loopback"),
        ({"ready_within_s": 0}, "ready_within_s is 0"),
    ],
)
def test_a_specification_that_cannot_be_used_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        replace(SPEC, **changes)


def test_a_release_is_what_its_name_says(tmp_path: Path) -> None:
    good = tmp_path / f"zaki-0.1.0-{sha256(b'archive').hexdigest()[:12]}.tar.gz"
    good.write_bytes(b"archive")
    assert Release.read(good).content == b"archive"
    good.write_bytes(b"another")
    with pytest.raises(SpecError, match="not what its name says"):
        Release.read(good)
    with pytest.raises(SpecError, match="cannot be read"):
        Release.read(tmp_path / "none")


def test_a_release_says_what_its_instances_run() -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        pins = b"UV_VERSION=1\nIMAGE_TAG=zaki/openclaw:7\n"
        member = tarfile.TarInfo("scripts/pins.env")
        member.size = len(pins)
        archive.addfile(member, io.BytesIO(pins))
    assert Release("0.1.0", content.getvalue()).image == "zaki/openclaw:7"
    with pytest.raises(SpecError, match="names no image"):
        _ = SPEC.release.image


@pytest.mark.parametrize("script", [render_change_over(SPEC), render_undo(SPEC), render_secrets()])
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_what_the_services_keep_outlives_them_unless_it_shall_not() -> None:
    assert "rm -rf" not in render_undo(SPEC)
    assert "rm -rf --one-file-system /var/lib/zaki/volumes" in render_undo(replace(SPEC, keep_data=False))


def test_each_timer_has_its_service_is_started_and_leaves_room_for_people() -> None:
    files = render_files(SPEC)
    for timer in TIMERS:
        assert "Persistent=yes\n" in files[f"/etc/systemd/system/{timer}"][0]
        assert "RandomizedDelaySec=" in files[f"/etc/systemd/system/{timer}"][0]
        assert "Nice=19\n" in files[f"/etc/systemd/system/{timer.removesuffix('timer')}service"][0]
        assert timer in render_change_over(SPEC)
