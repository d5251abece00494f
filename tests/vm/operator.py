"""An operator with a checkout, a stack and a VM, and the people who write to the bot that they run."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bot.cli.releasing import build_release
from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatedPerson
from tests.ports import free_port
from tests.vm.images import CHANGES, NAME, small_image
from tests.vm.machine import PROJECT, Disk, Vm, wait_until
from tests.vm.preparation import prepared_disk
from tests.vm.wire import Wire

TOKEN = "123456789:AAtests-only-not-a-real-token-000000"
STACK = "vm"
#: Seconds in which somebody is answered: the VM is many times slower than a machine.
PATIENCE = 400.0
#: Seconds into an `up` at which the way in is cut; a whole one takes longer.
_MOMENTS = (2.0, 90.0)
_ARCHIVE = "small.tar.gz"
#: The resolver of qemu's user network.
_FORWARDER = "10.0.2.3"


@dataclass
class Operator:
    """Somebody with a checkout, an SSH key and a stack, who calls `zaki`."""

    checkout: Path
    backend: Path
    vm: Vm
    target: str

    @classmethod
    async def begin(cls, vm: Vm, folder: Path, telegram: str, port: int) -> Operator:
        """With a stack that is configured, of a host to which nothing was done.

        Args:
            vm: It has just started, from :func:`disk_for_serving`.
            folder: Empty.
            telegram: The simulator's URL on this machine.
            port: At which the engine reaches the VM.
        """
        (folder / "backend").mkdir()
        target = f"ssh://{vm.user}@127.0.0.1:{port}"
        operator = cls(await asyncio.to_thread(_copy, folder / "checkout"), folder / "backend", vm, target)
        await operator.pulumi("stack", "init", STACK)
        settings = {"ZAKI_TELEGRAM_API": f"http://10.0.2.2:{urlsplit(telegram).port}", "ZAKI_ADMISSION": "open"}
        settings |= {"ZAKI_POOL": "0", "ZAKI_OPERATORS": "1", "ZAKI_ENGINE_SECONDS": "900"}
        config = {
            "zaki:host_target": target,
            "zaki:host_key": vm.host_key,
            "zaki:host_swap_mib": "256",
            "zaki:image": NAME,
            "zaki:forwarders": _FORWARDER,
            # Of a plan that nobody has: there is a proxy for it.
            "zaki:egress_lists": json.dumps({"strict": ".example.org"}),
            "zaki:settings": json.dumps(settings),
            # A start takes as much longer as everything else there.
            "zaki:ready_within_s": "600",
        }
        await operator.pulumi("config", "set-all", *_plain(config), "--secret", f"zaki:telegram_token={TOKEN}")
        return operator

    @property
    def environment(self) -> Mapping[str, str]:
        """What the operator's shell has."""
        kept = {key: value for key, value in self.vm.environment.items() if not key.startswith(("ZAKI_", "PULUMI_"))}
        return {
            **kept,
            "PULUMI_CONFIG_PASSPHRASE": "of the test",
            "PULUMI_BACKEND_URL": f"{self.backend.as_uri()}?metadata=skip",
            # Before the environment's own packages, which are those of the checkout that the tests are of.
            "PYTHONPATH": str(self.checkout),
        }

    async def zaki(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command."""
        return await self._run(sys.executable, "-c", "from bot.cli import main; main()", *words)

    async def pulumi(self, *words: str) -> str:
        """What a plain `pulumi` prints, in the environment that `zaki env` tells of."""
        _, told, errors = await self.zaki("env", "--stack", STACK, "--json")
        assert told, errors
        variables: dict[str, str] = json.loads(told)
        program = shutil.which("pulumi", path=variables["PATH"])
        assert program is not None
        code, output, errors = await self._run(program, "--non-interactive", *words, **variables)
        assert code == 0, output + errors
        return output

    async def up(self) -> dict[str, Any]:
        """What `zaki host up` did."""
        code, output, errors = await self.zaki("host", "up", "--stack", STACK, "--json")
        assert code == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found

    async def first_up(self) -> dict[str, Any]:
        """The same, where the image comes as soon as Docker runs."""
        if (await asyncio.to_thread(self.vm.run, "command -v dockerd", check=False)).returncode == 0:
            await self.image_comes()
            return await self.up()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.image_comes())
            return await self.up()

    async def image_comes(self) -> None:
        """Wait for Docker on the VM, and give it the image, as an operator does who built one of their own."""
        changes = shlex.join(word for change in CHANGES for word in ("--change", change))
        # Docker starts, and again with its settings. Not one long wait: whoever is cancelled has to wait for its end.
        bring = f"docker import {changes} /root/{_ARCHIVE} {NAME} >/dev/null 2>&1 && exit; sleep 3"
        look = f"for try in {{1..20}}; do {bring}; done; exit 1"
        while (await asyncio.to_thread(self.vm.run, look, check=False)).returncode != 0:
            pass

    async def preview(self) -> str:
        """What `zaki host preview` shows."""
        code, shown, errors = await self.zaki("host", "preview", "--stack", STACK)
        assert code == 0, errors
        return shown

    @asynccontextmanager
    async def configured(self, config: Mapping[str, str]) -> AsyncIterator[None]:
        """With other values of the configuration, during the block."""
        file = self.checkout / f"Pulumi.{STACK}.yaml"
        usual = file.read_text()
        if config:
            await self.pulumi("config", "set-all", *_plain(config))
        try:
            yield
        finally:
            file.write_text(usual)

    def new_version(self, version: str) -> None:
        """The checkout becomes another version."""
        file = self.checkout / "pyproject.toml"
        file.write_text(re.sub('^version = ".*"$', f'version = "{version}"', file.read_text(), count=1, flags=re.M))

    @contextmanager
    def broken(self, version: str) -> Iterator[None]:
        """The checkout is another version, which does not start, during the block."""
        files = [self.checkout / name for name in ("pyproject.toml", "bot/front/app.py")]
        usual = [file.read_text() for file in files]
        self.new_version(version)
        files[1].write_text(f"{usual[1]}\nraise RuntimeError('this version is broken')\n")
        try:
            yield
        finally:
            for file, text in zip(files, usual, strict=True):
                file.write_text(text)

    async def _run(self, *command: str, **environment: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.checkout,
            env={**self.environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()


async def cut_again_and_again(
    operator: Operator, wire: Wire, cuts: int, seed: int = 20261125, tell: Callable[[str], None] = print
) -> int:
    """Begin an `up` so many times and cut its way in at a random moment.

    Returns:
        How often nobody could log in any more, over a new connection.
    """
    chance = random.Random(seed)  # noqa: S311 - which moments, not a secret
    locked_out = 0
    for number in range(1, cuts + 1):
        moment = chance.uniform(*_MOMENTS)
        up = asyncio.create_task(operator.zaki("host", "up", "--stack", STACK))
        await asyncio.wait({up}, timeout=moment)
        wire.cut()
        code, _, _ = await up
        seen = await asyncio.to_thread(operator.vm.run, "id -u", check=False, timeout=120)
        locked_out += seen.returncode != 0
        tell(f"cut {number} of {cuts} after {moment:.0f} s: exit code {code}")
    return locked_out


@contextmanager
def running_telegram() -> Iterator[str]:
    """A simulated Telegram in a process of its own, during the block; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "bot.standins.telegram", "--port", str(port), "--token", TOKEN]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)

    def listens() -> bool:
        assert process.poll() is None, "the simulator ended"
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, "the simulator")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def disk_for_serving(bare: Disk, folder: Path) -> Disk:
    """A bare disk, besides with what takes long where all is emulated (see `preparation.py`), and the image.

    Args:
        bare: As a cloud hands it over.
        folder: Empty.
    """
    return prepared_disk(bare, folder, build_release(folder / "release"), small_image(folder))


async def answered(people: SimulatorClient, person: SimulatedPerson, text: str) -> None:
    """Somebody writes and waits for the reply."""
    message = await people.say(person, text)
    await people.wait_for_reply(
        person, after=message.id, timeout=PATIENCE, predicate=lambda reply: reply.text == f"You wrote: {text}"
    )


@asynccontextmanager
async def writing(people: SimulatorClient, person: SimulatedPerson) -> AsyncIterator[list[str]]:
    """Somebody writes on as soon as they are answered, during the block; each text, all of them answered."""
    texts: list[str] = []
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            texts.append(f"number {len(texts)}")
            await answered(people, person, texts[-1])

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        try:
            yield texts
        finally:
            over.set()


def _copy(folder: Path) -> Path:
    """A copy of the project, whose configuration and version are its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    return folder


def _plain(config: Mapping[str, str]) -> list[str]:
    """Words of `pulumi config set-all` that set so much."""
    return [word for key, value in config.items() for word in ("--plaintext", f"{key}={value}")]
