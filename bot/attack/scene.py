"""A throw-away instance, its neighbour, and what stands around them to be reached; looked at from the outside alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bot.credentials import FrontCredentials
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackManager
from infra.spec import InstanceSpec

SCRIPT = (Path(__file__).parent / "script.py").read_text()
LISTENER = (Path(__file__).parent / "listener.py").read_text()
#: How the script is started in an instance.
_PYTHON = ("python3", "-s", "-c", SCRIPT)
#: Seconds that an attempt may take.
_PATIENCE = 90.0


class NotTried(Exception):
    """An attempt cannot be made here; the message says why."""


class SceneFailed(Exception):
    """What an attempt needs does not work, so nothing is known of it; the message says what it is."""


@dataclass(frozen=True, order=True)
class Target:
    """Something that stands somewhere to be reached, and counts who comes."""

    address: str
    port: int
    #: `tcp` or `udp`.
    kind: str = "tcp"

    @property
    def given(self) -> list[str | int]:
        """How the scripts are told of it."""
        return [self.address, self.port, self.kind]


class Stands(Protocol):
    """Counts what arrives at targets."""

    async def watch(self) -> None:
        """Count from now on."""

    async def landed(self) -> Collection[Target]:
        """What arrived since, from anywhere."""


class Front(Protocol):
    """The front that both instances may call, and what it did."""

    #: Where it listens for instances.
    at: Target
    mine: FrontCredentials
    theirs: FrontCredentials
    my_chat: int
    their_chat: int
    #: Of a file that was sent to the neighbour's chat.
    their_file: str
    #: A skill that may be downloaded, as `/skills` is asked for it.
    skill: Mapping[str, str]
    #: What OpenClaw sends to the install policy before an update to which only the neighbour's person agreed.
    update: Mapping[str, Any]

    async def watch(self) -> None:
        """Note what it does from now on."""

    async def harm(self) -> str:
        """What it did since that concerns the neighbour, or that the attacker may not have; empty: nothing."""


@dataclass
class Scene:
    """All that attempts need; what is None or missing in `targets` is said in `lacks`, by the attempt's name."""

    attacker: InstanceSpec
    neighbour: InstanceSpec
    containers: Containers
    stacks: StackManager
    archive: Archive
    #: A folder of ours on the host.
    folder: Path
    stands: Stands
    #: By the name of an attempt: whom it is aimed at.
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    front: Front | None = None
    #: Where the forged go, which nobody else does; the addresses that are claimed.
    forged: tuple[Target, Sequence[str]] | None = None
    #: A name server, a name, and the target inside that it leads to.
    rebinding: tuple[str, str, Target] | None = None
    #: The host's address on the bridge, and Zaki's port there.
    gateway: Target | None = None
    #: How a command is run where the gateway's address is; empty: here.
    on_host: Sequence[str] = ()
    #: How the script is started in the attacker, where not by `docker exec`.
    inside: Sequence[str] = ()

    def lack(self, name: str) -> NotTried:
        """Why an attempt cannot be made."""
        return NotTried(self.lacks.get(name, "there is nothing here to aim it at"))

    @asynccontextmanager
    async def attacking(self, script: str, /, **given: Any) -> AsyncIterator[Any]:
        """The attacker does it, and holds on to what it got during the block; gives what it says."""
        command = self.inside or ("docker", "exec", "-i", self.attacker.id, *_PYTHON)
        async with _script([*command, script], given) as said:
            yield said

    async def neighbour_does(self, script: str, /, **given: Any) -> Any:
        """The neighbour does it, and says the truth. Raises :class:`SceneFailed` where it cannot."""
        async with _script(["docker", "exec", "-i", self.neighbour.id, *_PYTHON, script], given) as said:
            return said

    async def neighbour_works(self) -> str:
        """Empty where the neighbour can do all that an assistant needs, else what went wrong."""
        place = f"worked-{os.urandom(4).hex()}"
        try:
            await self.neighbour_does("work", place=place)
        except SceneFailed as error:
            return f"the neighbour cannot work: {error}"
        if await self.containers.read_file(self.neighbour.id, place) != b"worked":
            return "the neighbour cannot write"
        return ""

    async def processes(self, which: InstanceSpec) -> list[int]:
        """Every process of an instance, by its number here."""
        first = await self.containers.process(which.id)
        if first is None:
            raise SceneFailed(f"{which.id} does not run")
        return await asyncio.to_thread(_in_group, first.container)

    async def first_process(self, which: InstanceSpec) -> int:
        """The number of the instance's first process here."""
        found = await self.containers.process(which.id)
        if found is None:
            raise SceneFailed(f"{which.id} does not run")
        return found.pid

    async def in_network(self, which: InstanceSpec, *command: str) -> str:
        """What a command of the host prints in the instance's network."""
        pid = await self.first_process(which)
        return await output("nsenter", "--target", str(pid), "--net", *command)


@asynccontextmanager
async def _script(command: Sequence[str], given: Mapping[str, Any]) -> AsyncIterator[Any]:
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=1 << 22)
    assert process.stdin is not None  # noqa: S101 - it was asked for
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        process.stdin.write(json.dumps(given).encode() + b"\n")
        await process.stdin.drain()
        try:
            async with asyncio.timeout(_PATIENCE):
                line = await process.stdout.readline()
        except TimeoutError:
            raise SceneFailed(f"{command[-1]} did not end in {_PATIENCE:.0f} seconds") from None
        if not line:
            raise SceneFailed(f"{command[-1]}: {await _last_words(process)}")
        yield json.loads(line)
    finally:
        process.stdin.close()
        await _ended(process)


@dataclass
class Listening:
    """A listener at work, and what it has told."""

    process: Process
    told: list[Target] = field(default_factory=list)

    async def arrived(self) -> list[Target]:
        """Who came so far."""
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()
        while (line := (await self.process.stdout.readline()).decode()) != "asked\n":
            if not line:
                raise SceneFailed(f"a listener ended: {await _last_words(self.process)}")
            address, port, kind, _ = line.split()
            self.told.append(Target(address, int(port), kind))
        return self.told


@asynccontextmanager
async def listening(targets: Sequence[Target], *prefix: str, python: str = "python3") -> AsyncIterator[Listening]:
    """Something that listens at all of them during the block, started by the words before it."""
    command = (*prefix, python, "-s", "-c", LISTENER)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin is not None  # noqa: S101 - it was asked for
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        process.stdin.write(json.dumps([target.given for target in targets]).encode() + b"\n")
        await process.stdin.drain()
        if await process.stdout.readline() != b"listening\n":
            raise SceneFailed(f"nothing can listen there: {await _last_words(process)}")
        yield Listening(process)
    finally:
        process.stdin.close()
        await _ended(process)


async def output(*command: str, given: bytes | None = None) -> str:
    """What a command prints. Raises :class:`SceneFailed` where it fails."""
    return (await raw_output(*command, given=given)).decode(errors="replace")


async def raw_output(*command: str, given: bytes | None = None) -> bytes:
    """As :func:`output`, in bytes."""
    if shutil.which(command[0]) is None:
        raise NotTried(f"{command[0]} is not installed here")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL if given is None else PIPE, stdout=PIPE, stderr=PIPE
    )
    said, complaint = await process.communicate(given)
    if process.returncode != 0:
        raise SceneFailed(f"`{' '.join(command[:3])}` failed: {complaint.decode(errors='replace').strip()[-300:]}")
    return said


async def _last_words(process: Process) -> str:
    assert process.stderr is not None  # noqa: S101 - it was asked for
    words = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    return words[-1] if words else f"it ended without a word (exit code {await process.wait()})"


async def _ended(process: Process) -> None:
    try:
        async with asyncio.timeout(20.0):
            await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _in_group(container: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if container in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
    return found
