"""`zaki host --stack`: what an operator is told where no host can be worked on, and after an engine that was killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
#: Of nobody.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIChp2/o1/fkk6eBpzz7cUbolfRdbFt+tHmFQ/zr2JZLI"


class Shell:
    """An operator's shell, with a stack of this checkout."""

    def __init__(self, folder: Path) -> None:
        self.stack = f"test-{os.getpid()}"
        self.file = PROJECT / f"Pulumi.{self.stack}.yaml"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ZAKI_", "PULUMI_"))}
        self._environment = {**kept, "ZAKI_STATE": str(folder / "state")}
        self.state = folder / "state"

    def zaki(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        done = subprocess.run(
            [Path(sys.executable).parent / "zaki", *words],
            env=self._environment,
            cwd=self.state.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr.strip()

    def pulumi(self, *words: str) -> str:
        told = json.loads(self.zaki("env", "--stack", self.stack, "--json")[1])
        done = subprocess.run(
            ["pulumi", "--non-interactive", *words],
            env=self._environment | told,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, target: str) -> None:
        self.pulumi("stack", "init", self.stack, "--no-select")
        values = {"host_target": target, "host_key": HOST_KEY}
        plain = [word for key, value in values.items() for word in ("--plaintext", f"zaki:{key}={value}")]
        self.pulumi("config", "set-all", *plain, "--secret", "zaki:telegram_token=123456:a-token-of-nobody")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.file.unlink(missing_ok=True)


def test_stack_that_is_not_there_or_is_of_this_machine_is_refused(shell: Shell) -> None:
    code, _, said = shell.zaki("host", "up", "--stack", shell.stack)
    assert (code, said.partition(":")[0]) == (2, f"Pulumi.{shell.stack}.yaml is missing")
    code, _, said = shell.zaki("host", "preview", "--stack", "dev")
    assert (code, said.partition(";")[0]) == (2, "zaki:host_target is unset in Pulumi.dev.yaml")
    code, _, said = shell.zaki("host", "down", "--stack", "u-0123456789")
    assert (code, said.partition(";")[0]) == (2, "u-0123456789 names a person's stack")


def test_host_that_does_not_answer_is_one_sentence_after_a_killed_engine_too(shell: Shell) -> None:
    shell.configure(f"ssh://admin@127.0.0.1:{free_port()}")
    # As far as the host: the release says what instances run.
    code, _, said = shell.zaki("host", "preview", "--stack", shell.stack)
    assert (code, "127.0.0.1 cannot be reached over SSH at port" in said) == (1, True)
    backend = shell.state / "hosts/backend/.pulumi"
    # As an engine leaves it that was killed: nobody holds it.
    lock = backend / f"locks/organization/zaki/{shell.stack}/left-behind.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = {"pid": 4194304, "username": "root", "hostname": socket.gethostname(), "timestamp": "2026-01-01T00:00:00Z"}
    lock.write_text(json.dumps(held))
    code, _, said = shell.zaki("host", "up", "--stack", shell.stack)
    assert code == 1
    assert "127.0.0.1 cannot be reached over SSH at port" in said
    assert "\n" not in said
    # What it set, so that plain `pulumi up` does the same.
    assert "zaki:release" in shell.file.read_text()
    # And what it did not, so that the next release brings its own.
    assert "zaki:image" not in shell.file.read_text()
    # One of somebody who may be at work is left alone.
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps(held | {"hostname": "another"}))
    code, _, said = shell.zaki("host", "up", "--stack", shell.stack)
    assert code == 1
    assert "is being worked on by another pulumi (process 4194304 on another)" in said
    assert lock.exists()


def test_release_is_made_once_for_the_same_sources(shell: Shell) -> None:
    code, first, _ = shell.zaki("host", "release")
    assert code == 0
    archive = Path(first.strip()).expanduser()
    changed = archive.stat().st_mtime_ns
    assert shell.zaki("host", "release")[1] == first
    assert archive.stat().st_mtime_ns >= changed
