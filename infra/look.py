"""What a machine says of itself before anything is done to it: system, room, and whether its steps still hold."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.configuration import SpecError
from infra.target import Target

_SCRIPT = (Path(__file__).parent / "look.sh").read_text()
_LEAST_DEBIAN = 12
#: MiB that must be free before a step may begin.
_LEAST_FREE_MIB = 300
#: Seconds; the slowest part is the checks of the steps.
_TIMEOUT_S = 600
_NO_SUDO = 77


class HostTrouble(SpecError):
    """The machine cannot be worked on; the message is one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True)
class HostState:
    """A machine as it was found."""

    #: ID and version of the distribution, for example `debian 12`.
    system: str
    systemd: bool
    #: Seconds since 1970, by the machine's own clock.
    now: str
    #: Name of a person with the user id of the instances.
    user_1000: str | None = None
    #: MiB free, by path.
    free_mib: Mapping[str, int] = field(default_factory=dict)
    #: What each finished step was left as, by name.
    tokens: Mapping[str, str] = field(default_factory=dict)
    #: What is not any more as a step left it, a sentence each, by the step's name.
    drift: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    #: Names of the programs that listen, by `address:port`.
    listening: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, said: str) -> HostState:
        """Read what `look.sh` printed.

        Raises:
            HostTrouble: It did not come to its end.
        """
        facts: dict[str, str] = {}
        free: dict[str, int] = {}
        tokens: dict[str, str] = {}
        drift: dict[str, tuple[str, ...]] = {}
        listening: dict[str, str] = {}
        for line in said.splitlines():
            match line.split("\t", 2):
                case ["free", path, mib] if mib.isdigit():
                    free[path] = int(mib)
                case ["step", name, token]:
                    tokens[name] = token
                case ["drift", name, what]:
                    drift[name] = (*drift.get(name, ()), what)
                case ["listens", endpoint, program]:
                    listening[endpoint] = program
                case ["end"]:
                    facts["end"] = ""
                case [key, value]:
                    facts[key] = value
        if not {"end", "system", "now"} <= facts.keys():
            raise HostTrouble(
                "The host did not say what it is; log in by hand and see whether bash and coreutils work."
            )
        return cls(facts["system"], "systemd" in facts, facts["now"], facts.get("user"), free, tokens, drift, listening)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not wrong, but weakens the machine, a sentence each."""
        if self.user_1000 is None:
            return ()
        return (
            f"{self.user_1000} has the user id 1000 on this host, which is the instances' too: the kernel lets that "
            "user signal them and counts both against the same limits; give that user another id.",
        )

    def token(self, step: str) -> str:
        """What a step's command carries: the same for one that holds, a new one for one that has to run again."""
        if step in self.tokens and step not in self.drift:
            return self.tokens[step]
        return self.now

    def require(self, where: str) -> None:
        """Refuse a machine that no step was written for, or that has no room for one.

        Raises:
            HostTrouble: It is such a machine.
        """
        name, _, version = self.system.partition(" ")
        if name != "debian" or not version.isdigit() or int(version) < _LEAST_DEBIAN or not self.systemd:
            what = self.system or "an unknown system"
            raise HostTrouble(
                f"{where} runs {what}{'' if self.systemd else ' without systemd'}, and a host needs Debian "
                f"{_LEAST_DEBIAN} or newer with systemd; install that, or name another host."
            )
        for path, mib in self.free_mib.items():
            if mib < _LEAST_FREE_MIB:
                raise HostTrouble(
                    f"{where} has {mib} MiB left on {path}, and {_LEAST_FREE_MIB} are needed; free some room there."
                )

    def require_free(self, where: str, endpoints: Sequence[str]) -> None:
        """Refuse a machine where somebody else listens at an `address:port` of ours.

        Raises:
            HostTrouble: It is such a machine.
        """
        for endpoint in endpoints:
            port = endpoint.rpartition(":")[2]
            for taken in (endpoint, f"0.0.0.0:{port}", f"*:{port}", f"[::]:{port}"):
                if program := self.listening.get(taken):
                    raise HostTrouble(
                        f"{program} listens at port {port} of {where} ({taken}), which Zaki needs at {endpoint}; stop "
                        "it, or give it another port."
                    )


def look(target: Target | None) -> HostState:
    """Log in, look, and log out; None looks at this machine.

    Raises:
        HostTrouble: Nobody gets in, or not as root, or the machine is not one for a host.
    """
    where = "This machine" if target is None else target.host
    as_root = f'[ "$(id -u)" = 0 ] && exec bash -s; sudo -n true 2>/dev/null || exit {_NO_SUDO}; exec sudo -n bash -s'
    done = _on(target, ["sh", "-c", as_root], _SCRIPT)
    if done.returncode == _NO_SUDO:
        user = "you" if target is None else target.user
        raise HostTrouble(
            f"{where} lets {user} become root only with a password; allow it with the line "
            f"`{'USER' if target is None else user} ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d/zaki, or log in as root."
        )
    if target is not None and done.returncode == 255:
        raise HostTrouble(_refused(target, done.stderr))
    found = HostState.parse(done.stdout)
    found.require(where)
    return found


def steps_under_way(target: Target | None) -> list[str]:
    """The steps that a machine is at work on now, over a new log-in; asked when their own connection says nothing.

    Raises:
        HostTrouble: Nobody gets in.
    """
    listed = "systemctl list-units --plain --no-legend --state=active,activating,deactivating 'zaki-step-*'"
    done = _on(target, ["sh", "-c", listed])
    if target is not None and done.returncode == 255:
        raise HostTrouble(_refused(target, done.stderr))
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def _on(target: Target | None, command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command on the machine, with the pinned host key and the agent's keys alone."""
    where = "This machine" if target is None else target.host
    with tempfile.TemporaryDirectory(prefix="zaki-ssh-") as folder:
        if target is not None:
            known = Path(folder) / "known_hosts"
            known.write_text(f"zaki-host {target.host_key}\n")
            command = [*_ssh(target, known), shlex.join(command)]
        try:
            return subprocess.run(
                command,
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
                env=_environment(),
            )
        except FileNotFoundError:
            raise HostTrouble(
                "There is no ssh on this machine, which reaches the host; install openssh-client."
            ) from None
        except subprocess.TimeoutExpired:
            raise HostTrouble(f"{where} did not answer within {_TIMEOUT_S} seconds; see whether it hangs.") from None


def _ssh(target: Target, known: Path) -> list[str]:
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlgorithms": "ssh-ed25519",
        "HostKeyAlias": "zaki-host",
        # The plugin knows the agent alone: what it cannot do must fail here, before anything is done.
        "IdentityFile": "none",
        "PreferredAuthentications": "publickey",
        "ServerAliveInterval": "15",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
    }
    pairs = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    return ["ssh", "-F", "none", "-T", *pairs, "-p", str(target.port), "-l", target.user, target.host]


def _environment() -> dict[str, str]:
    return {key: os.environ[key] for key in ("HOME", "PATH", "SSH_AUTH_SOCK") if key in os.environ} | {"LC_ALL": "C"}


def _refused(target: Target, said: str) -> str:
    host = target.host
    if "Host key verification failed" in said or "no matching host key" in said:
        return (
            f"{host} shows another host key than zaki:host_key; if nobody stands in between, set it to what "
            f"`ssh-keyscan -t ed25519 -p {target.port} {host}` says."
        )
    if "Permission denied" in said or "Too many authentication failures" in said:
        if not os.environ.get("SSH_AUTH_SOCK"):
            return (
                f"No SSH agent runs here, and only an agent logs in to {host}; start one with `eval $(ssh-agent)`, "
                "and load your key with `ssh-add`."
            )
        return (
            f"{host} takes none of the keys in your SSH agent for {target.user}; load the right one with `ssh-add`, "
            f"or put it into {target.user}'s authorized_keys there."
        )
    last = re.sub(r"^ssh: ", "", (said.strip().splitlines() or ["no reason was given"])[-1]).strip().rstrip(".")
    return f"{host} cannot be reached over SSH at port {target.port} ({last}); see whether it runs and lets you in."
