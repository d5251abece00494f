"""The checks of `zaki doctor`: what Zaki needs of this machine, what is there, and the cure of what is not.

What is needed comes from ``scripts/pins.env`` and ``scripts/setup`` brings it, so most cures are one command.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.cli.output import print_json, stdout
from bot.toolchain import Toolchain, read_pins

if TYPE_CHECKING:
    from bot.provisioner.leftovers import Found
    from bot.settings import Settings

__all__ = ["Check", "DockerFacts", "leftovers_checks", "render", "run_checks"]

GIB = 1024**3
#: What one awake instance may need, and what an image, its instance and their logs take.
LEAST_MEMORY = 2 * GIB
LEAST_DISK = 5 * GIB
#: What an asleep instance takes of swap (measured: 0.8 to 0.9 GiB).
SLEEPER = GIB
#: Debian 12's; older ones lack what the Docker plugin asks for.
LEAST_DOCKER = (20, 10)
SETUP = "Run scripts/setup."
#: Seconds that a program or the Docker daemon may take to answer.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that Zaki needs of this machine."""

    name: str
    ok: bool
    #: What is there, in a few words.
    found: str
    #: What to do about it, one sentence; empty where `ok`.
    cure: str = ""
    #: Zaki runs without it, only worse.
    warning: bool = False

    @property
    def failed(self) -> bool:
        """Whether Zaki cannot run because of this."""
        return not self.ok and not self.warning


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """What the Docker daemon says of itself; `error` where it says nothing."""

    error: str = ""
    version: str = ""
    live_restore: bool = False
    #: Limits that it cannot hold, by name.
    unlimited: tuple[str, ...] = ()
    #: Where it keeps images and volumes, if that is on this machine.
    root: Path | None = None
    #: The image of an instance, ``sha256:…``; None where it is missing.
    image: str | None = None


async def run_checks(settings: Settings | None = None) -> list[Check]:
    """Look at this machine and return every check, in the order in which they are worth reading.

    Args:
        settings: Names the folder whose disk counts and, with the host's declaration, the image that must be there;
            without it the pinned image.

    Raises:
        PinsError: ``scripts/pins.env`` is missing or cannot be read.
    """
    pins = read_pins()
    tools = Toolchain.from_pins(pins)
    image = (settings.image or _declared_image(settings) if settings else None) or tools.image_tag
    uv, restic, engine, docker = await asyncio.gather(
        _output(_uv(tools, pins), "--version"),
        _output(Path("restic"), "version"),
        _output(tools.pulumi_bin / "pulumi", "version"),
        _docker(image),
    )
    memory = _meminfo(_text(Path("/proc/meminfo")))
    return [
        python_check(sys.version_info[:3], pins["PYTHON_MIN"]),
        Check("uv", bool(uv), uv or "missing", "" if uv else SETUP),
        docker_check(docker),
        limits_check(docker),
        live_restore_check(docker),
        bridge_check(_number("net/bridge/bridge-nf-call-iptables")),
        engine_check(engine, tools.engine_version),
        program_check("Python language host", tools.pulumi_bin / "pulumi-language-python", ""),
        program_check(
            "Docker plugin", tools.plugin("docker", tools.docker_plugin_version), tools.docker_plugin_version
        ),
        program_check(
            "Command plugin", tools.plugin("command", tools.command_plugin_version), tools.command_plugin_version
        ),
        image_check(docker, image),
        restic_check(restic),
        inotify_check(_number("fs/inotify/max_user_instances"), int(pins["INOTIFY_INSTANCES"])),
        uid_check(_owner(1000)),
        swap_check(memory.get("SwapTotal", 0), memory.get("MemTotal", 0)),
        memory_check(memory.get("MemAvailable", 0)),
        *(disk_check(folder, free) for folder, free in _disks(settings, tools, docker)),
    ]


def render(checks: Sequence[Check], as_json: bool = False) -> None:
    """Print checks on standard output: a table for people, or one JSON array."""
    if as_json:
        print_json(
            [
                {"name": check.name, "ok": check.ok, "warning": check.warning, "found": check.found, "cure": check.cure}
                for check in checks
            ]
        )
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[yellow]warning[/]" if check.warning else "[red]missing[/]"
        table.add_row(mark, check.name, escape(f"{check.found}. {check.cure}" if check.cure else check.found))
    stdout().print(table)


def python_check(version: tuple[int, int, int], minimum: str) -> Check:
    """Python that is new enough; `minimum` like ``3.11``."""
    ok = version >= _version(minimum)
    return Check("Python", ok, ".".join(map(str, version)), "" if ok else f"Install Python {minimum} or newer.")


def docker_check(docker: DockerFacts) -> Check:
    """A Docker daemon that answers and is new enough."""
    if docker.error:
        return Check("Docker Engine", False, docker.error, SETUP)
    least = ".".join(map(str, LEAST_DOCKER))
    ok = _version(docker.version) >= LEAST_DOCKER
    return Check("Docker Engine", ok, docker.version, "" if ok else f"Install Docker Engine {least} or newer.")


def limits_check(docker: DockerFacts) -> Check:
    """A kernel that lets Docker hold an instance to its limits."""
    if docker.error:
        return Check("Limits of containers", False, "unknown while Docker does not answer", SETUP)
    ok = not docker.unlimited
    found = "memory, swap, processors and processes" if ok else f"not for {', '.join(docker.unlimited)}"
    cure = "" if ok else "Boot with 'cgroup_enable=memory swapaccount=1' on the kernel's command line."
    return Check("Limits of containers", ok, found, cure)


def live_restore_check(docker: DockerFacts) -> Check:
    """Instances that outlive a restart of the Docker daemon."""
    found = "on" if docker.live_restore else "off: a restart of Docker ends every instance"
    cure = "" if docker.live_restore else 'Put {"live-restore": true} into /etc/docker/daemon.json and restart Docker.'
    return Check("Docker's live-restore", docker.live_restore, found, cure, warning=True)


def bridge_check(value: int | None) -> Check:
    """Traffic between containers on one bridge passes the firewall."""
    ok = value == 1
    found = "filtered" if ok else "not filtered: instances could reach one another"
    cure = "" if ok else f"{SETUP} It loads br_netfilter and sets net.bridge.bridge-nf-call-iptables=1."
    return Check("Traffic between containers", ok, found, cure)


def engine_check(found: str, wanted: str) -> Check:
    """The pinned Pulumi engine; `found` as ``pulumi version`` prints it."""
    ok = found.removeprefix("v") == wanted
    return Check("Pulumi engine", ok, found or "missing", "" if ok else f"{SETUP} It brings {wanted}.")


def program_check(name: str, path: Path, version: str) -> Check:
    """A program of the engine that is at its place."""
    ok = os.access(path, os.X_OK)
    found = version or "present"
    return Check(name, ok, found if ok else f"missing at {path}", "" if ok else SETUP)


def image_check(docker: DockerFacts, image: str) -> Check:
    """The image of an instance in the local Docker."""
    if docker.image is None:
        return Check("Image of an instance", False, f"{image} is missing", f"{SETUP} Then `zaki host up`.")
    return Check("Image of an instance", True, f"{image} is {docker.image[:19]}")


def restic_check(found: str) -> Check:
    """restic, which archives instances that rest for weeks; `found` as ``restic version`` prints it."""
    ok = bool(found)
    words = found.split()
    version = words[1] if len(words) > 1 else found
    cure = "" if ok else f"{SETUP} Without restic, instances that rest for weeks keep their volumes."
    return Check("restic", ok, version or "missing", cure, warning=True)


def inotify_check(value: int | None, wanted: int) -> Check:
    """Room for as many gateways as memory allows: each holds one inotify instance, all under one uid."""
    ok = value is not None and value >= wanted
    found = "unknown" if value is None else str(value)
    cure = "" if ok else f"Run 'sysctl -w fs.inotify.max_user_instances={wanted}' as root."
    return Check("inotify instances a user", ok, found, cure, warning=True)


def uid_check(owner: str | None) -> Check:
    """No user of the host shares the uid of the instances."""
    ok = owner is None
    found = "no user of this host" if ok else f"the user {owner}"
    cure = "" if ok else f"Give {owner} another uid: a process that escaped from an instance would be {owner}."
    return Check("Uid 1000", ok, found, cure, warning=True)


def swap_check(total: int, memory: int) -> Check:
    """Swap, to which sleeping instances give their memory back; both in bytes, `memory` what the machine has."""
    sleepers = total // SLEEPER
    found = (
        f"{_size(total)}, enough for {sleepers} sleeping instances" if sleepers else _size(total) if total else "none"
    )
    ok = 2 * total >= memory
    cure = f"{SETUP} As root it brings swap; without that a sleeping instance keeps its gigabyte of memory."
    return Check("Swap", ok, found, "" if ok else cure, warning=True)


def memory_check(available: int) -> Check:
    """Memory for one more awake instance; `available` in bytes."""
    ok = available >= LEAST_MEMORY
    cure = "" if ok else f"Free {_size(LEAST_MEMORY)}: that is what an awake instance may use."
    return Check("Memory", ok, f"{_size(available)} available", cure, warning=True)


def disk_check(folder: Path, free: int) -> Check:
    """Room on the disk of one folder; `free` in bytes."""
    ok = free >= LEAST_DISK
    cure = "" if ok else f"Free {_size(LEAST_DISK)} there."
    return Check("Disk", ok, f"{_size(free)} free at {folder}", cure, warning=True)


def leftovers_checks(found: Found) -> list[Check]:
    """Nothing that a crash left behind: one check that says so, or one for each thing that is there."""
    checks = [Check("Leftovers", False, thing.what, thing.cure, warning=True) for thing in found.leftovers]
    if found.unseen:
        cure = "Look again when the other checks are in order."
        checks.append(Check("Leftovers", False, f"not all seen: {', '.join(found.unseen)}", cure, warning=True))
    return checks or [Check("Leftovers", True, "none")]


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``20.10.24+dfsg1`` is (20, 10, 24)."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"


def _declared_image(settings: Settings) -> str | None:
    """The image of new instances, where this host was declared."""
    from bot.hostfacts import HostFacts, host_file
    from bot.settings import SettingsError

    try:
        return HostFacts.read(host_file(settings)).image
    except SettingsError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(setting: str) -> int | None:
    """A kernel setting below /proc/sys; None where the kernel has none."""
    text = _text(Path("/proc/sys") / setting).strip()
    return int(text) if text.isdecimal() else None


def _meminfo(text: str) -> dict[str, int]:
    """The lines of /proc/meminfo, in bytes."""
    fields = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3}


def _owner(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _uv(tools: Toolchain, pins: Mapping[str, str]) -> Path:
    """uv on PATH, else the one that scripts/setup installs where there is none."""
    found = shutil.which("uv")
    return Path(found) if found else tools.cache / "uv" / pins["UV_VERSION"] / "bin" / "uv"


def _here(folder: str) -> Path | None:
    path = Path(folder)
    return path if path.is_absolute() and path.exists() else None


async def _output(program: Path, argument: str) -> str:
    """What a program prints when asked for its version; empty where it does not run."""
    try:
        # The engine would otherwise ask the network whether there is a newer one.
        environment = os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "1"}
        process = await asyncio.create_subprocess_exec(
            program, argument, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=environment
        )
    except OSError:
        return ""
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output.decode().strip() if process.returncode == 0 else ""


async def _docker(image: str) -> DockerFacts:
    import aiodocker

    try:
        async with asyncio.timeout(PATIENCE), aiodocker.Docker() as docker:
            info: Mapping[str, Any] = await docker.system.info()
            try:
                about: Mapping[str, Any] = await docker.images.inspect(image)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                about = {}
    # aiodocker raises ValueError where it finds no socket at all.
    except (aiodocker.DockerError, OSError, ValueError) as error:
        return DockerFacts(error=str(error) or "does not answer")
    wanted = {"memory": "MemoryLimit", "swap": "SwapLimit", "processors": "CpuCfsQuota", "processes": "PidsLimit"}
    return DockerFacts(
        version=info.get("ServerVersion", ""),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        unlimited=tuple(name for name, key in wanted.items() if not info.get(key)),
        root=_here(info.get("DockerRootDir", "")),
        image=about.get("Id"),
    )


def _disks(settings: Settings | None, tools: Toolchain, docker: DockerFacts) -> list[tuple[Path, int]]:
    """Free bytes at each folder that grows; folders of one file system count once."""
    disks: dict[int, tuple[Path, int]] = {}
    for folder in (settings.state if settings else None, docker.root, tools.cache):
        if folder is None:
            continue
        there = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            disks.setdefault(there.stat().st_dev, (folder, shutil.disk_usage(there).free))
        except OSError:
            continue
    return list(disks.values())
