"""The stack of a host behind SSH, as its operator keeps it: configured in the checkout, its state where they chose."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from pulumi.automation import LocalWorkspace
from pulumi.automation.errors import CommandError, ConcurrentUpdateError
from pulumi.automation.events import EngineEvent

from bot.provisioner.engine import EngineCommand, EngineDied, EngineStopped, EngineTimedOut
from bot.provisioner.enginewatch import EngineWatch, error_lines
from bot.provisioner.stackfolder import EngineLock
from bot.provisioner.stackresults import StackBusy, StackFailed, StackPreview, StackTimeout
from bot.provisioner.stacks import BareStack, engine_variables, own_backend
from bot.provisioner.trouble import in_plain_words
from bot.toolchain import Toolchain
from infra.configuration import PROJECT, SpecError
from infra.look import HostTrouble, steps_under_way
from infra.target import Target

#: Seconds that a whole `up` may take: an engine and an image may have to be built on the host.
_TIMEOUT_S = 4 * 3600.0
_GRACE_S = 10.0
#: Seconds without a word of the engine after which the host is asked whether it still works on what it was told to.
SILENCE_S = 60.0
#: How often in a row the host must say that it does nothing, or not answer, before nobody waits for it any more.
_IDLE_LOOKS, _AWAY_LOOKS = 2, 10
_LOCKED = re.compile(r"created by [^@\s]*@(\S+) \(pid (\d+)\)")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of an `up` that did something, or failed."""

    name: str
    #: `create`, `update`, `delete` …, as Pulumi calls it.
    operation: str
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Update:
    """What an `up` or `destroy` did."""

    #: How many resources, by Pulumi's names of operations.
    changes: Mapping[str, int]
    #: In the order in which they ended.
    steps: tuple[Step, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return any(count for name, count in self.changes.items() if name not in ("same", "read"))


class Progress:
    """Is told of the steps of a run; the default says nothing."""

    def begun(self, name: str) -> None:
        """A step is under way."""

    def done(self, step: Step) -> None:
        """It has ended."""


class OperatorsStack:
    """One stack of the checkout. Everything here blocks; :meth:`stop` may be called from any thread."""

    def __init__(
        self, name: str, project: Path, toolchain: Toolchain, environment: Mapping[str, str], silence: float = SILENCE_S
    ) -> None:
        """Work on a stack.

        Args:
            name: Of the stack.
            project: The checkout, with the stack's configuration.
            toolchain: The engine and its plugins.
            environment: The engine's variables, which say where the state is and what opens its secrets.
            silence: Seconds without a word of the engine, before the host is asked whether it is still at work.
        """
        self.name = name
        self._file = project / f"Pulumi.{name}.yaml"
        self._silence = silence
        self._stop = threading.Event()
        self._why: str | None = None
        self._workspace = LocalWorkspace(
            work_dir=str(project),
            pulumi_home=str(toolchain.pulumi_home),
            env_vars=dict(environment),
            pulumi_command=EngineCommand(toolchain, timeout=_TIMEOUT_S, grace=_GRACE_S, stop=self._stop),
        )
        self._stack = BareStack(name, self._workspace)

    def configuration(self) -> dict[str, str]:
        """What is configured and no secret, by qualified keys; empty where there is no file."""
        try:
            found = yaml.safe_load(self._file.read_text()) or {}
        except FileNotFoundError:
            return {}
        except yaml.YAMLError:
            raise SpecError(f"{self._file} is no YAML; mend it, or write it anew with `pulumi config set`.") from None
        values = found.get("config") or {}
        # As the engine hands them on: what is no text is JSON.
        return {
            str(key): value if isinstance(value, str) else json.dumps(value)
            for key, value in values.items()
            if not (isinstance(value, dict) and "secure" in value)
        }

    def target(self) -> Target:
        """The host that the stack declares; raises :class:`infra.configuration.SpecError`."""
        config = self.configuration()
        if not config:
            raise SpecError(
                f"{self._file.name} is missing: make the stack with `pulumi stack init {self.name}`, and configure it "
                "as docs/hosting.md says."
            )
        target = Target.from_config(_ByShortKeys(config))
        if target is None:
            raise SpecError(
                f"zaki:host_target is unset in {self._file.name}; set it to ssh://USER@HOST, or leave --stack out to "
                "declare this machine."
            )
        return target

    def set(self, key: str, value: str) -> None:
        """Write a value into the configuration, unless it is there already."""
        if self.configuration().get(f"{PROJECT}:{key}") != value:
            with self._explained("configured", EngineWatch(_say_nothing)):
                self._run("config", "set", f"{PROJECT}:{key}", "--stack", self.name, "--", value)

    def preview(self, **changed: str) -> StackPreview:
        """Say what :meth:`up` would do with these values; nothing is done, not even to the configuration.

        Raises:
            StackFailed: The configuration or the host refuses.
            StackBusy: Somebody else is at work on the stack.
        """
        watch = EngineWatch(_say_nothing)
        with self._explained("previewed", watch), self._changed(changed) as file:
            found = self._stack.preview(on_event=watch, color="never", config_file=file)
        return StackPreview(changes=watch.changes, text=found.stdout)

    def up(self, progress: Progress, **changed: str) -> Update:
        """Make the host what the configuration says; `changed` holds for this run alone. Raises as :meth:`preview`.

        Raises:
            StackTimeout: The host was cut off, or does not end.
        """
        self._mend()
        run = _Run(progress)
        with self._explained("brought up", run.watch), self._changed(changed) as file, self._watched(run):
            self._past_dead_engines(
                lambda: self._stack.up(on_event=run, color="never", suppress_progress=True, config_file=file)
            )
        return run.result()

    def destroy(self, progress: Progress) -> Update:
        """Take everything back that was declared; raises as :meth:`up`."""
        self._mend()
        run = _Run(progress)
        with self._explained("taken down", run.watch), self._watched(run):
            self._past_dead_engines(lambda: self._stack.destroy(on_event=run, color="never", suppress_progress=True))
        return run.result()

    def stop(self) -> None:
        """End what is under way, gracefully where it lets us."""
        self._stop.set()

    def _run(self, *words: str) -> str:
        done = self._workspace.pulumi_command.run(list(words), self._workspace.work_dir, self._workspace.env_vars)
        return str(done.stdout)

    def _mend(self) -> None:
        """Clear away what an engine that was killed had begun."""
        watch = EngineWatch(_say_nothing)
        with self._explained("read", watch):
            self._past_dead_engines(lambda: self._clear_pending(watch))

    def _past_dead_engines(self, work: Callable[[], object]) -> None:
        """Do it, and once more where nobody held the stack but an engine that was killed."""
        try:
            work()
        except ConcurrentUpdateError as error:
            if not self._unlock(str(error)):
                raise
            work()

    def _clear_pending(self, watch: EngineWatch) -> None:
        found = json.loads(self._run("stack", "export", "--stack", self.name))
        if (found.get("deployment") or {}).get("pending_operations"):
            self._stack.refresh(clear_pending_creates=True, on_event=watch, color="never", suppress_progress=True)

    def _unlock(self, said: str) -> bool:
        """Remove the locks of engines that are gone; False where one may be at work."""
        locks = [EngineLock(host, int(pid)) for host, pid in _LOCKED.findall(said)]
        if not locks or any(lock.is_held() for lock in locks):
            return False
        for lock in locks:
            lock.end_plugins()
        self._run("cancel", "--yes", "--stack", self.name)
        return True

    @contextlib.contextmanager
    def _changed(self, changed: Mapping[str, str]) -> Iterator[str | None]:
        """A copy of the configuration's file with other values, during the block; None where there are none."""
        if not changed:
            yield None
            return
        found: dict[str, Any] = yaml.safe_load(self._file.read_text())
        found["config"] |= {f"{PROJECT}:{key}": value for key, value in changed.items()}
        with tempfile.TemporaryDirectory(prefix="zaki-config-") as folder:
            file = Path(folder, self._file.name)
            file.write_text(yaml.safe_dump(found, sort_keys=False))
            yield str(file)

    @contextlib.contextmanager
    def _watched(self, run: _Run) -> Iterator[None]:
        """End a run that waits for a host which does nothing any more: the plugin never notices that it was cut off."""
        over = threading.Event()
        looking = threading.Thread(target=self._look_after, args=(run, self.target(), over), daemon=True)
        looking.start()
        try:
            yield
        except BaseException:
            # Whoever was stopped in the middle holds the stack still.
            if self._stop.is_set():
                self._stop.clear()
                with contextlib.suppress(CommandError, EngineStopped):
                    self._run("cancel", "--yes", "--stack", self.name)
            raise
        finally:
            over.set()
            looking.join()

    def _look_after(self, run: _Run, target: Target, over: threading.Event) -> None:
        idle = away = 0
        while not over.wait(min(self._silence / 4, 20.0)):
            if not run.waits_for(self._silence):
                idle = away = 0
                continue
            try:
                busy = bool(steps_under_way(target))
            except HostTrouble as trouble:
                away += 1
                why = f"{trouble} Then run `zaki host up --stack {self.name}` again, which goes on from there."
            else:
                idle, away = 0 if busy else idle + 1, 0
                why = (
                    f"The connection to {target.host} was lost in the middle; run `zaki host up --stack {self.name}` "
                    "again, which goes on from there."
                )
            if idle >= _IDLE_LOOKS or away >= _AWAY_LOOKS:
                self._why = why
                self._stop.set()
                return

    @contextlib.contextmanager
    def _explained(self, done: str, watch: EngineWatch) -> Iterator[None]:
        """Turn the engine's failures into ours."""
        what = f"The stack {self.name}"
        try:
            yield
        except EngineTimedOut:
            raise StackTimeout(f"{what} was not {done} within {_TIMEOUT_S / 3600:.0f} hours.") from None
        except EngineStopped:
            why, self._why = self._why, None
            raise StackTimeout(why or f"{what} was left in the middle; the next `zaki host up` goes on.") from None
        except EngineDied:
            raise StackFailed(f"{what} was not {done}, because the engine was killed; try again.") from None
        except ConcurrentUpdateError as error:
            raise StackBusy(
                f"{what} is being worked on by another pulumi ({_holder(str(error))}); try again when it is done, or "
                f"run `pulumi cancel {self.name}` if it is gone."
            ) from None
        except CommandError as error:
            lines = watch.errors or error_lines(str(error))
            reason = in_plain_words(lines[0]) if lines else "the engine gave no reason"
            raise StackFailed(f"{what} could not be {done}: {reason.rstrip('.')}.", lines[1:21]) from None


@dataclass
class _Run:
    """Follows one run of the engine."""

    progress: Progress
    watch: EngineWatch = field(default_factory=lambda: EngineWatch(_say_nothing))
    _begun: dict[str, float] = field(default_factory=dict)
    _steps: list[Step] = field(default_factory=list)
    _heard: float = field(default_factory=time.monotonic)

    def __call__(self, event: EngineEvent) -> None:
        self._heard = time.monotonic()
        self.watch(event)
        if (begins := event.resource_pre_event) is not None:
            name = _step_name(begins.metadata)
            if name is not None:
                self._begun[name] = self._heard
                self.progress.begun(name)
        elif (ends := event.res_outputs_event) is not None:
            self._ended(ends.metadata, failed=False)
        elif (fails := event.res_op_failed_event) is not None:
            self._ended(fails.metadata, failed=True)

    def waits_for(self, seconds: float) -> bool:
        """Whether a step is under way and nothing was heard for so long."""
        return bool(self._begun) and time.monotonic() - self._heard > seconds

    def result(self) -> Update:
        """What was done, once it is over."""
        return Update(self.watch.changes, tuple(self._steps))

    def _ended(self, metadata: Any, *, failed: bool) -> None:
        name = _step_name(metadata)
        if name is not None and (since := self._begun.pop(name, None)) is not None:
            step = Step(name, str(metadata.op.value), self._heard - since, failed)
            self._steps.append(step)
            self.progress.done(step)


def _step_name(metadata: Any) -> str | None:
    """The name of a resource on which something is done; None where nothing is, or it only groups others."""
    if str(metadata.op.value) in ("same", "read", "refresh") or not metadata.type.startswith(("command:", "docker:")):
        return None
    return str(metadata.urn).rpartition("::")[2]


def _holder(said: str) -> str:
    found = _LOCKED.search(said)
    if found is None:
        return "see `pulumi stack`"
    host, pid = found.groups()
    return f"process {pid} on {'this machine' if host == socket.gethostname() else host}"


class _ByShortKeys:
    """Configuration by its keys without the project's name."""

    def __init__(self, config: Mapping[str, str]) -> None:
        self._config = config

    def get(self, key: str) -> str | None:
        return self._config.get(f"{PROJECT}:{key}")


def environment_of(toolchain: Toolchain, state: Path) -> dict[str, str]:
    """The engine's variables for an operator's stack: the caller's, and where they name no backend, Zaki's own.

    Args:
        toolchain: The engine and its plugins.
        state: Folder with Zaki's own backend and passphrase, which are made where they are missing and needed.
    """
    caller = {
        key: value
        for key, value in os.environ.items()
        # Those of this machine's stack are none of another's, and no setting of the service is the engine's.
        if key not in ("PULUMI_STACK", "PULUMI_OPTION_CONFIG_FILE") and not key.startswith("ZAKI_")
    }
    found = caller | engine_variables(toolchain)
    if "PULUMI_BACKEND_URL" in caller:
        return found
    backend, passphrase = own_backend(state)
    found.pop("PULUMI_CONFIG_PASSPHRASE", None)
    return found | {"PULUMI_BACKEND_URL": backend, "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase)}


def variables_by_hand(toolchain: Toolchain, state: Path, stack: str) -> dict[str, str]:
    """What a plain `pulumi` needs for an operator's stack besides the caller's own variables."""
    named = {**engine_variables(toolchain), "PULUMI_STACK": stack}
    if "PULUMI_BACKEND_URL" in os.environ:
        return named
    backend, passphrase = own_backend(state)
    return {**named, "PULUMI_BACKEND_URL": backend, "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase)}


def _say_nothing(_text: str) -> None:
    pass
