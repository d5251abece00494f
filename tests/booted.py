"""A real systemd with this machine's own system below it, in namespaces of its own: nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.steps import HostFile, render_program

_BOOTED_WITHIN = 240.0
_CGROUP = Path("/sys/fs/cgroup/systemd")

#: What it writes goes to a layer of its own; of the machine's units none is enabled, and Docker cannot be started, for
#: its network is the machine's. The kernel's settings cannot be written.
_BOOT = r"""
set -eu
work=$1 group=$2 state=$3
root=$work/root
echo $$ >"$group/cgroup.procs"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$root"
mount -t proc proc "$root/proc"
mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd"
mount --bind "$group" "$root/sys/fs/cgroup/systemd"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/etc/systemd/system"
for unit in docker.service docker.socket containerd.service; do ln -s /dev/null "$root/etc/systemd/system/$unit"; done
mkdir -p "$root/var/lib/zaki" "$root/old"
mount --bind "$state" "$root/var/lib/zaki"
cd "$root"
pivot_root . old
umount -l /old
# As systemd itself does where it is in no container: credentials reach a unit that way.
mount --make-rshared /
export container=zaki-test
exec /lib/systemd/systemd --system --unit=basic.target --log-target=journal </dev/null
"""


@dataclass(frozen=True)
class Booted:
    """A system that runs."""

    #: Its first process.
    pid: int
    #: What is in its `/var/lib/zaki`.
    state: Path

    def run(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root."""
        done = subprocess.run(self.command(*words), input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def command(self, *words: str) -> list[str]:
        """The words that run a command in it."""
        return [*("nsenter", "--target", str(self.pid), "--mount", "--pid", "--ipc", "--uts", "--cgroup"), *words]

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their absolute path."""
        for path, text in files.items():
            self.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1"', "write", path, stdin=text)

    def active(self, unit: str) -> bool:
        """Whether a unit is."""
        return self.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"


def step(
    system: Booted,
    action: str,
    name: str,
    do: str,
    *,
    undo: str = "",
    check: str = "",
    files: Mapping[str, HostFile],
    secret: str = "",
) -> subprocess.CompletedProcess[str]:
    """`do` or `undo` a step of a host's stack, as the stack runs it."""
    known = {path: (file.mode, file.owner, str(file.content)) for path, file in files.items()}
    program = render_program(do, undo=undo, check=check, files=known, secret=secret, provisional_s=None)
    file = f"/run/zaki-steps/{name}.sh"
    system.write({file: program})
    return system.run("bash", "-euo", "pipefail", file, action, name, "token", check=False)


def drift(system: Booted, name: str) -> str:
    """What the check of a step says now, as `infra/look.sh` asks it."""
    record = f"/var/lib/zaki/steps/{name}"
    return system.run("bash", "-c", f"record={record} name={name} bash -u {record}/check 2>&1", check=False).stdout


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """A system that runs during the block, with its layer below `folder`."""
    if os.geteuid() != 0:
        pytest.fail("A system is booted by root: run this test as root.", pytrace=False)
    for name in ("root", "upper", "work", "state"):
        (folder / name).mkdir()
    # Of a name that was there before, systemd ends at once.
    group = _CGROUP / f"zaki-test-{secrets.token_hex(4)}"
    group.mkdir()
    # Whatever ends the tests, no system outlives them.
    words = ["setpriv", "--pdeathsig", "KILL"]
    words += ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    words += ["bash", "-c", _BOOT, "boot", str(folder), str(group), str(folder / "state")]
    with (folder / "boot.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _started(process, folder)
    finally:
        for child in _children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait()
        _remove(group)
        shutil.rmtree(folder, ignore_errors=True)


def _started(process: subprocess.Popen[bytes], folder: Path) -> Booted:
    deadline = time.monotonic() + _BOOTED_WITHIN
    said = ""
    while time.monotonic() < deadline and process.poll() is None:
        for pid in _children(process.pid):
            system = Booted(pid, folder / "state")
            said = system.run("systemctl", "is-system-running", check=False).stdout.strip()
            if said in ("running", "degraded"):
                return system
        time.sleep(0.1)
    pytest.fail(f"systemd did not start ({said}): {(folder / 'boot.log').read_text()}", pytrace=False)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _remove(group: Path) -> None:
    """Remove control groups whose processes have ended, the innermost first."""
    folders = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for path in [*folders, group]:
        path.rmdir()
