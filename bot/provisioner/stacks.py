"""Stacks through Pulumi's Automation API: one for each person, and that of a local host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

import structlog
import yaml  # type: ignore[import-untyped]
from pulumi.automation import LocalWorkspace, OutputMap, Stack, UpdateSummary
from pulumi.automation._stack import StackInitMode
from pulumi.automation.errors import CommandError, ConcurrentUpdateError, StackAlreadyExistsError

from bot.credentials import load_key, read_key
from bot.provisioner.engine import EngineCommand, EngineDied, EngineStopped, EngineTimedOut
from bot.provisioner.enginewatch import EngineWatch, error_lines
from bot.provisioner.stackfolder import StackCorrupt, StackFolder
from bot.provisioner.stackresults import (
    HostOutputs,
    StackBusy,
    StackError,
    StackFailed,
    StackOutputs,
    StackPreview,
    StackRefused,
    StackTimeout,
)
from bot.provisioner.trouble import in_plain_words
from bot.toolchain import Toolchain
from infra.program import is_refusal, main
from infra.spec import HostSpec, InstanceSpec, is_instance_id

__all__ = [
    "HOST_STACK",
    "HostOutputs",
    "Orphans",
    "StackBusy",
    "StackError",
    "StackFailed",
    "StackManager",
    "StackOutputs",
    "StackPreview",
    "StackRefused",
    "StackTimeout",
]

#: Name of the stack of a local host.
HOST_STACK = "dev"

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = structlog.get_logger()
_PROJECT = Path(__file__).resolve().parents[2]


class Orphans(Protocol):
    """Removes what no stack knows of; each acts only on what carries our owner label."""

    async def remove_orphan_container(self, instance_id: str) -> None:
        """Remove the container, if there is one, and keep the volume."""

    async def remove_orphan(self, instance_id: str) -> None:
        """Remove the container and the volume, as far as they are there."""

    async def remove_orphan_network(self, network: str, host_file: str) -> None:
        """Remove the network if it carries the label of the host whose facts are written to `host_file`."""


@dataclass(frozen=True, slots=True)
class _Work:
    """An operation on a stack that this process holds."""

    folder: StackFolder
    #: Set: the engine is asked to stop.
    stop: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[str], None] = lambda _text: None

    @property
    def name(self) -> str:
        """What people call the stack."""
        return f"The stack of {self.folder.stack}" if is_instance_id(self.folder.stack) else "The host's stack"


class StackManager:
    """Brings stacks up and down. Any method may be cancelled: the engine is then stopped gracefully first."""

    def __init__(
        self,
        toolchain: Toolchain,
        state: Path,
        orphans: Orphans,
        *,
        concurrency: int = 2,
        timeout: float = 120.0,
        grace: float = 15.0,
        patience: float = 30.0,
        keep_history: int = 5,
    ) -> None:
        """Keep stacks below `state`.

        Args:
            toolchain: The engine and its plugins.
            state: Folder of the service; stacks are in `stacks`, the host's in `host-stack`, the passphrase in `keys`.
            orphans: Removes what a killed engine has left in Docker.
            concurrency: How many engines may run at once.
            timeout: Seconds that one run of the engine may take.
            grace: Seconds that it gets to end after it was asked to; twice.
            patience: Seconds to wait for another process that is at work on the same stack.
            keep_history: How many updates of a stack the history keeps.
        """
        self._toolchain = toolchain
        self._state = state
        self._orphans = orphans
        self._timeout = timeout
        self._grace = grace
        self._patience = patience
        self._keep_history = keep_history
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="stack")
        self._turns: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        self._under_way: set[threading.Event] = set()
        self._closing = False
        self._asyncio_log_level = logging.getLogger("asyncio").level

    async def up(
        self, spec: InstanceSpec, progress: Callable[[str], None] | None = None, *, compare: bool = False
    ) -> StackOutputs:
        """Make an instance what its specification says; repairs first what a killed engine has left.

        Args:
            spec: What it shall be.
            progress: Told in a word or two what is being done.
            compare: Look at the world first, instead of trusting the engine's own record of it.

        Raises:
            StackBusy: Another process is at work on this stack.
            StackTimeout: The engine did not end in time.
            StackFailed: The engine or Docker refused.
        """
        async with self._held(self._folder(spec.id), progress) as work:
            await self._mend(work, compare=compare)
            return await self._brought_up(work, spec)

    async def repair(self, instance_id: str, progress: Callable[[str], None] | None = None) -> StackOutputs:
        """Compare a stack with the world, then bring it up as it was configured last; raises as :meth:`up`."""
        folder = self._folder(instance_id)
        config = folder.configuration()
        if not config:
            raise StackFailed(f"The stack of {instance_id} is not there; bring it up first.")
        async with self._held(folder, progress) as work:
            await self._mend(work, compare=True)
            return await self._brought_up(work, InstanceSpec.from_config(_ByShortKeys(config)))

    async def preview(self, spec: InstanceSpec) -> StackPreview:
        """Say what :meth:`up` would do, and do nothing; raises as :meth:`up`."""
        return await self._previewed(self._folder(spec.id), spec.to_config())

    async def destroy(self, instance_id: str, progress: Callable[[str], None] | None = None) -> None:
        """Remove an instance for good: container, volume with all data, state folder; one that is gone is fine.

        Raises: as :meth:`up`.
        """
        folder = self._folder(instance_id)
        if not folder.path.exists():
            await self._orphans.remove_orphan(instance_id)
            return
        async with self._held(folder, progress) as work:
            await self._mend(work)
            if folder.exists():
                await self._in_thread(work, self._destroy, work)
            await self._orphans.remove_orphan(instance_id)
            folder.remove()

    def environment(self, instance_id: str) -> dict[str, str]:
        """The variables with which plain `pulumi` works on an instance's stack.

        Nothing is made; raises :class:`bot.credentials.KeyMissing` where there is no passphrase yet.
        """
        return self._environment(self._folder(instance_id), read_key)

    def command_line(self, instance_id: str) -> str:
        """The command that previews an instance's stack by hand, in that environment."""
        return f"pulumi -C {self._folder(instance_id).path} preview -s {instance_id}"

    def host_spec(self) -> HostSpec:
        """The local host as the project's `Pulumi.dev.yaml` declares it, its facts written below our own state.

        Raises:
            SpecError: The file says what cannot be used.
        """
        found = yaml.safe_load((_PROJECT / f"Pulumi.{HOST_STACK}.yaml").read_text())["config"]
        config = {str(key): str(value) for key, value in found.items()}
        config["zaki:host_file"] = str(self._state / "host.json")
        return HostSpec.from_config(_ByShortKeys(config))

    async def host_up(self, spec: HostSpec | None = None, progress: Callable[[str], None] | None = None) -> HostOutputs:
        """Declare this machine as a host; a bridge or facts that went missing are made again. Raises as :meth:`up`."""
        spec = spec or self.host_spec()
        async with self._held(self._host_folder(), progress) as work:
            await self._mend(work)
            if not work.folder.record().has_network:
                await self._orphans.remove_orphan_network(spec.network, spec.host_file)
            return await self._in_thread(work, self._host_up, work, spec)

    async def host_preview(self, spec: HostSpec | None = None) -> StackPreview:
        """Say what :meth:`host_up` would do, and do nothing; raises as :meth:`up`."""
        return await self._previewed(self._host_folder(), (spec or self.host_spec()).to_config())

    async def host_down(self, progress: Callable[[str], None] | None = None) -> None:
        """Remove the host's bridge and facts; instances must be gone before. Raises as :meth:`up`."""
        folder = self._host_folder()
        if not folder.path.exists():
            return
        async with self._held(folder, progress) as work:
            await self._mend(work)
            if folder.exists():
                await self._in_thread(work, self._destroy, work)
            folder.remove()

    def host_environment(self, *, make: bool = False) -> dict[str, str]:
        """The variables with which plain `pulumi` in the project's folder works on this machine's stack.

        `make`: where the stack is missing it is made, empty. Raises as :meth:`up`.
        """
        folder = self._host_folder()
        if not folder.exists() and not make:
            raise StackFailed(
                "The host's stack is not there yet: `zaki host up` declares it, `zaki env --make` makes it empty."
            )
        if not folder.exists() and (descriptor := folder.try_hold()) is not None:
            try:
                work = _Work(folder)
                with self._watched(work, "made"):
                    folder.prepare(self.host_spec().to_config())
                    self._stack(work)
            finally:
                os.close(descriptor)
        return self._environment(folder, read_key)

    async def close(self) -> None:
        """Stop the engines that run, gracefully, and start no more."""
        self._closing = True
        for stop in self._under_way:
            stop.set()
        await asyncio.to_thread(self._executor.shutdown)

    def _folder(self, instance_id: str) -> StackFolder:
        if not is_instance_id(instance_id):
            raise StackFailed(f"{instance_id!r} is no instance's id; give `u-` and 10 lower-case letters or digits.")
        return StackFolder(self._state / "stacks" / instance_id, instance_id)

    def _host_folder(self) -> StackFolder:
        return StackFolder(self._state / "host-stack", HOST_STACK)

    def _environment(self, folder: StackFolder, passphrase_of: Callable[[Path], bytes] = load_key) -> dict[str, str]:
        # The preview of a stack that is not there yet leaves no key behind.
        home = self._state / "keys" if folder.path.is_relative_to(self._state) else folder.path
        passphrase = home / "passphrase"
        passphrase_of(passphrase)
        ours = [str(self._toolchain.pulumi_bin), str(Path(sys.executable).parent)]
        before = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part not in ours]
        return {
            "PATH": os.pathsep.join([*ours, *before]),
            "PULUMI_HOME": str(self._toolchain.pulumi_home),
            "PULUMI_BACKEND_URL": folder.backend_url,
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_STACK": folder.stack,
            "PULUMI_OPTION_CONFIG_FILE": str(folder.settings),
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
            "PULUMI_DIY_BACKEND_NO_LEGACY_WARNING": "1",
            # Every run looks through the logs of all others.
            "PULUMI_LOG_ROTATION_MAX_AGE_DAYS": "1",
            "PULUMI_LOG_ROTATION_MAX_TOTAL_MB": "1",
        }

    @asynccontextmanager
    async def _held(self, folder: StackFolder, progress: Callable[[str], None] | None = None) -> AsyncIterator[_Work]:
        """Hold a stack against every other task and process."""
        turn = self._turns.setdefault(folder.path, asyncio.Lock())
        async with turn:
            work = _Work(folder, tell=_from_thread(progress))
            deadline = time.monotonic() + self._patience
            while (descriptor := folder.try_hold()) is None:
                if time.monotonic() > deadline:
                    raise StackBusy(f"{work.name} is being worked on by another process; try again in a moment.")
                await asyncio.sleep(0.1)
            self._under_way.add(work.stop)
            try:
                yield work
            finally:
                self._under_way.discard(work.stop)
                os.close(descriptor)

    async def _in_thread(self, work: _Work, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run the function beside the event loop, at most so many at once; a cancelled caller still sees its end."""
        if self._closing:
            raise _stopping(work)
        running: Future[_T] = self._executor.submit(function, *args, **kwargs)
        try:
            return await asyncio.shield(asyncio.wrap_future(running))
        except asyncio.CancelledError:
            work.stop.set()
            if not running.cancel():
                await _end_of(running)
            raise

    async def _mend(self, work: _Work, *, compare: bool = False) -> None:
        """Clear away what a killed engine has left; with `compare`, look at the world in any case."""
        folder = work.folder
        await self._wait_for_engines(work)
        locks = folder.locks()
        try:
            record = folder.record()
        except StackCorrupt as error:
            _log.warning("stack made anew", stack=folder.stack, reason=str(error))
            folder.forget()
            record = folder.record()
        for path, lock in locks.items():
            lock.end_plugins()
            # All that `pulumi cancel` does.
            path.unlink(missing_ok=True)
        if is_instance_id(folder.stack) and not record.has_container:
            # Its name would be in the way. A volume is not: creating one that is there takes it over.
            await self._orphans.remove_orphan_container(folder.stack)
        if folder.exists() and (locks or record.pending or compare):
            _log.info("stack repaired", stack=folder.stack, locks=len(locks), pending=record.pending)
            work.tell("repairing")
            await self._in_thread(work, self._refresh, work)
            if is_instance_id(folder.stack) and not folder.record().has_container:
                # Whoever has its name is not the one that the stack made.
                await self._orphans.remove_orphan_container(folder.stack)

    async def _wait_for_engines(self, work: _Work) -> None:
        """Wait for an engine that works on the stack, one whose service was killed or one that runs by hand."""
        deadline = time.monotonic() + self._patience
        while held := [lock for lock in work.folder.locks().values() if lock.is_held()]:
            if time.monotonic() > deadline:
                raise StackBusy(
                    f"{work.name} is being worked on by pulumi (process {held[0].pid} on {held[0].host}); "
                    "try again when it is done."
                )
            await asyncio.sleep(0.2)

    async def _brought_up(self, work: _Work, spec: InstanceSpec) -> StackOutputs:
        changes = await self._in_thread(work, self._up, work, spec.to_config())
        outputs = work.folder.record().outputs
        return StackOutputs(
            container=str(outputs["container"]),
            volume=str(outputs["volume"]),
            address=str(outputs["address"]),
            image=str(outputs["image"]),
            changes=changes,
        )

    async def _previewed(self, folder: StackFolder, config: Mapping[str, str]) -> StackPreview:
        if folder.exists():
            async with self._held(folder) as work:
                await self._wait_for_engines(work)
                return await self._in_thread(work, self._preview, work, config)
        with tempfile.TemporaryDirectory(prefix="zaki-preview-") as path:
            async with self._held(StackFolder(Path(path), folder.stack)) as work:
                return await self._in_thread(work, self._preview, work, config)

    def _stack(self, work: _Work) -> _Stack:
        command = EngineCommand(self._toolchain, timeout=self._timeout, grace=self._grace, stop=work.stop)
        workspace = LocalWorkspace(
            work_dir=str(work.folder.path),
            pulumi_home=str(self._toolchain.pulumi_home),
            env_vars=self._environment(work.folder),
            pulumi_command=command,
        )
        stack = _Stack(work.folder.stack, workspace)
        if not work.folder.exists():
            with contextlib.suppress(StackAlreadyExistsError):
                stack.make()
        return stack

    def _up(
        self,
        work: _Work,
        config: Mapping[str, str],
        *,
        refresh: bool = False,
        replace: list[str] | None = None,
    ) -> Mapping[str, int]:
        with self._watched(work, "brought up") as watch:
            work.folder.prepare(config)
            self._stack(work).up(
                program=main, on_event=watch, refresh=refresh, replace=replace, color="never", suppress_progress=True
            )
        work.folder.prune(self._keep_history)
        return watch.changes

    def _host_up(self, work: _Work, spec: HostSpec) -> HostOutputs:
        changes = self._up(work, spec.to_config(), refresh=True)
        record = work.folder.record()
        facts, written = str(record.outputs["facts"]), Path(spec.host_file).expanduser()
        if not written.is_file() or written.read_text() != facts:
            # The engine never looks at the file itself.
            changes = self._up(work, spec.to_config(), replace=[record.urns["command:local:Command"]])
        return HostOutputs(network=str(record.outputs["network"]), facts=facts, host_file=written, changes=changes)

    def _preview(self, work: _Work, config: Mapping[str, str]) -> StackPreview:
        other = work.folder.path / "preview.yaml"
        with self._watched(work, "previewed") as watch:
            if not work.folder.exists():
                work.folder.prepare(config)
            stack = self._stack(work)
            work.folder.configuration_for(config, other)
            try:
                found = stack.preview(program=main, on_event=watch, color="never", config_file=str(other))
            finally:
                other.unlink()
        return StackPreview(changes=watch.changes, text=found.stdout)

    def _refresh(self, work: _Work) -> None:
        with self._watched(work, "repaired") as watch:
            self._stack(work).refresh(clear_pending_creates=True, on_event=watch, color="never", suppress_progress=True)

    def _destroy(self, work: _Work) -> None:
        with self._watched(work, "removed") as watch:
            stack = self._stack(work)
            stack.unprotect()
            stack.destroy(on_event=watch, color="never", suppress_progress=True)

    @contextlib.contextmanager
    def _watched(self, work: _Work, done: str) -> Iterator[EngineWatch]:
        """Follow a run of the engine, and turn its failures into ours."""
        watch = EngineWatch(work.tell)
        try:
            yield watch
        except EngineTimedOut:
            raise StackTimeout(f"{work.name} was not {done} within {self._timeout:.0f} seconds.") from None
        except EngineStopped:
            raise _stopping(work) from None
        except EngineDied:
            raise StackFailed(f"{work.name} was not {done}, because the engine was killed; try again.") from None
        except ConcurrentUpdateError:
            raise StackBusy(f"{work.name} is being worked on by another pulumi; try again in a moment.") from None
        except CommandError as error:
            lines = watch.errors or error_lines(str(error))
            reason = in_plain_words(lines[0]) if lines else "the engine gave no reason"
            refused = any(is_refusal(line) for line in lines)
            failure = StackRefused if refused else StackFailed
            raise failure(f"{work.name} could not be {done}: {reason.rstrip('.')}.", lines[-20:]) from None
        except OSError as error:
            reason = in_plain_words(f"{error.filename or work.folder.path}: {error.strerror}")
            raise StackFailed(f"{work.name} could not be {done}: {reason}.") from None
        finally:
            # An inline program silences the log of asyncio for the whole process.
            logging.getLogger("asyncio").setLevel(self._asyncio_log_level)


class _Stack(Stack):
    """Starts one process for an `up` instead of four: what the library asks the others for is in the checkpoint."""

    def __init__(self, name: str, workspace: LocalWorkspace) -> None:
        # The library's own would start a process that selects the stack; each command is told its name anyway.
        self.name = name
        self.workspace = workspace
        self._mode = StackInitMode.SELECT

    def outputs(self) -> OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> UpdateSummary:
        del show_secrets
        return UpdateSummary("", datetime.now(UTC), "", {}, {}, result="succeeded")

    def make(self) -> None:
        """Make it, without a note in the engine's home that it is the selected one."""
        self._run("stack", "init", self.name, "--secrets-provider", "passphrase", "--no-select")

    def unprotect(self) -> None:
        """Allow that everything is removed, the volume too."""
        self._run("state", "unprotect", "--all", "--yes", "--stack", self.name)

    def _run(self, *arguments: str) -> None:
        self.workspace.pulumi_command.run(list(arguments), self.workspace.work_dir, self.workspace.env_vars)


class _ByShortKeys:
    """Configuration by its keys without the project's name."""

    def __init__(self, config: Mapping[str, str]) -> None:
        self._config = config

    def get(self, key: str) -> str | None:
        return self._config.get(f"zaki:{key}")


def _stopping(work: _Work) -> StackBusy:
    return StackBusy(f"{work.name} is left as it is, because Zaki is stopping; try again when it runs again.")


def _from_thread(progress: Callable[[str], None] | None) -> Callable[[str], None]:
    """Call the function in the event loop, from any thread."""
    if progress is None:
        return lambda _text: None
    loop, told = asyncio.get_running_loop(), progress

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(told, text)

    return tell


async def _end_of(running: Future[Any]) -> None:
    """Wait for the end of a thread's work, however often we are cancelled."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.shield(asyncio.wrap_future(running))
