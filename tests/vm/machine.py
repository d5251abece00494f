"""A real machine to work on: a bare Debian under qemu, reached over SSH on loopback alone."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
#: Emulated, it boots and does everything else about ten times slower than a machine, and slower yet beside other tests.
PATIENCE_S = 900.0


class VmError(AssertionError):
    """The VM did not do what a machine does; the message ends with what it wrote last."""


@dataclass(frozen=True)
class Disk:
    """What every VM begins with."""

    folder: Path

    @classmethod
    def build(cls) -> Disk:
        """Make it, or take the one that was made before."""
        done = subprocess.run([PROJECT / "scripts/vm/build"], stdout=subprocess.PIPE, text=True, check=True)
        return cls(Path(done.stdout.strip()))


class Agent:
    """An SSH agent with one new key, and the key of the VMs' own side."""

    def __init__(self, folder: Path) -> None:
        for name in ("user", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
        self.user_key = (folder / "user.pub").read_text()
        self.host_key = (folder / "host.pub").read_text().rsplit(" ", 1)[0]
        self._host_private = (folder / "host").read_bytes()
        self.socket = folder / "agent"
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", self.socket], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        wait_until(self.socket.exists, "the SSH agent")
        subprocess.run(["ssh-add", "-q", folder / "user"], env=self.environment, check=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which programs find it."""
        return {**os.environ, "SSH_AUTH_SOCK": str(self.socket)}

    def seed(self, path: Path) -> None:
        """Write the disk that brings a VM its keys."""
        with tarfile.open(path, "w") as archive:
            parts: list[tuple[str, bytes | None, int, int]] = [
                ("etc/ssh/ssh_host_ed25519_key", self._host_private, 0, 0o600)
            ]
            for user, uid in (("admin", 1001), ("guest", 1002)):
                parts.append((f"home/{user}/.ssh", None, uid, 0o700))
                parts.append((f"home/{user}/.ssh/authorized_keys", self.user_key.encode(), uid, 0o600))
            for name, content, owner, mode in parts:
                about = tarfile.TarInfo(name)
                about.mode, about.uid, about.gid = mode, owner, owner
                if content is None:
                    about.type = tarfile.DIRTYPE
                else:
                    about.size = len(content)
                archive.addfile(about, BytesIO(content or b""))

    def close(self) -> None:
        """End it, and forget the key with it."""
        self._process.terminate()
        self._process.wait()


class Vm:
    """A VM that runs; `admin` logs in with the agent's key and has sudo."""

    def __init__(self, disk: Disk, agent: Agent, folder: Path, second: str | None = None) -> None:
        """Start it.

        Args:
            disk: What it begins with.
            agent: Who gets in.
            folder: For what it writes.
            second: Name of a tap device that qemu makes, for a second network card; None: it has none.
        """
        self._agent = agent
        self._folder = folder
        #: On loopback.
        self.port = free_port()
        self.user = "admin"
        self.host_key = agent.host_key
        (folder / "known_hosts").write_text(f"vm {agent.host_key}\n")
        agent.seed(folder / "seed")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk.folder / "disk", folder / "overlay"],
            check=True,
        )
        self._console = folder / "console.log"
        command = [
            # Whatever ends the tests, no machine outlives them.
            *(
                "setpriv",
                "--pdeathsig",
                "KILL",
                "qemu-system-x86_64",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "2048",
            ),
            *("-kernel", disk.folder / "vmlinuz", "-initrd", disk.folder / "initrd"),
            *("-append", "root=/dev/vda rw console=ttyS0 systemd.show_status=1 mitigations=off audit=0"),
            # The guest's own syncs cost nothing: a reset keeps what it has written, only a power cut would not.
            *("-drive", f"file={folder / 'overlay'},if=virtio,cache=unsafe,discard=unmap"),
            *("-drive", f"file={folder / 'seed'},if=virtio,format=raw,readonly=on"),
            *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *(("-nic", f"tap,model=virtio-net-pci,ifname={second},script=no,downscript=no") if second else ()),
            *("-device", "virtio-rng-pci", "-display", "none", "-serial", f"file:{self._console}"),
            *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
        ]
        with (folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which programs find the SSH agent."""
        return self._agent.environment

    @property
    def console(self) -> str:
        """All that the VM wrote to its console."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def wait(self) -> None:
        """Wait until it has started and somebody can log in.

        Raises:
            VmError: It ended, or nobody could in time.
        """

        def running() -> bool:
            if self._process.poll() is not None:
                raise VmError(f"qemu ended with {self._process.returncode}: {(self._folder / 'qemu.log').read_text()}")
            # Not all that a cloud starts has to succeed, but all of it has to be over.
            said = self.run("systemctl is-system-running", check=False, timeout=60).stdout.strip()
            return said in ("running", "degraded")

        try:
            wait_until(running, "a log-in to the VM")
        except VmError as error:
            raise VmError(f"{error}\n{self.console[-3000:]}") from None

    def run(
        self, command: str, *, check: bool = True, timeout: float = PATIENCE_S, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root, over a connection of its own.

        Raises:
            VmError: It failed, or did not end within so many seconds.
        """
        ssh = self._ssh("sudo -n bash -c " + shlex.quote(command))
        try:
            done = subprocess.run(
                ssh,
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                env=self.environment,
            )
        except subprocess.TimeoutExpired:
            if not check:
                return subprocess.CompletedProcess(ssh, 255, "", "timeout")
            raise VmError(f"{command!r} did not end within {timeout:.0f} s.") from None
        if check and done.returncode != 0:
            raise VmError(f"{command!r} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def read(self, command: str) -> str:
        """What a command prints, without the end of its last line."""
        return self.run(command).stdout.rstrip("\n")

    def put(self, source: Path, target: str) -> None:
        """Copy a file, as root and with its mode."""
        unpack = f"d=$(mktemp -d) && tar -xf - -C $d && mv -T $d/* {shlex.quote(target)} && rmdir $d"
        pack = [
            "tar",
            "--create",
            "--directory",
            str(source.parent),
            "--owner=0",
            "--group=0",
            "--dereference",
            source.name,
        ]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
            subprocess.run(
                self._ssh("sudo -n sh -c " + shlex.quote(unpack)),
                stdin=packing.stdout,
                env=self.environment,
                check=True,
            )

    def reset(self) -> None:
        """Press the reset button; :meth:`wait` for what comes of it."""
        self._monitor("system_reset")

    def stop(self) -> None:
        """End it, without a shutdown."""
        with contextlib.suppress(OSError):
            self._monitor("quit")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        (self._folder / "overlay").unlink(missing_ok=True)

    def _ssh(self, command: str) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "HostKeyAlias": "vm",
            "LogLevel": "ERROR",
            "UserKnownHostsFile": str(self._folder / "known_hosts"),
        }
        pairs = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-T", *pairs, "-p", str(self.port), "-l", self.user, "127.0.0.1", command]

    def _monitor(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self._folder / "monitor"))
            with connection.makefile("rw") as lines:
                lines.readline()
                for name in ("qmp_capabilities", command):
                    lines.write(json.dumps({"execute": name}) + "\n")
                    lines.flush()
                    answer = next(found for line in lines if "event" not in (found := json.loads(line)))
                    if "error" in answer:
                        raise VmError(f"qemu refuses {command}: {answer['error']['desc']}")


@contextlib.contextmanager
def running_vm(disk: Disk, agent: Agent, folder: Path, second: str | None = None) -> Iterator[Vm]:
    """A new VM on a copy of the disk, during the block; see :class:`Vm`."""
    vm = Vm(disk, agent, folder, second)
    try:
        vm.wait()
        yield vm
    finally:
        vm.stop()


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for it, as long as an emulated machine may take; the seconds that it took.

    Raises:
        VmError: It did not come.
    """
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > PATIENCE_S:
            raise VmError(f"{what} did not come within {PATIENCE_S:.0f} s.")
        time.sleep(0.5)
    return time.monotonic() - begun
