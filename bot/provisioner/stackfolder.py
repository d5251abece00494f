"""The folder of one stack: project, configuration, and a state backend of its own, so that costs stay flat."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

import infra.program
from bot.provisioner.engine import end_session
from infra.spec import PROJECT

_CONTAINER = "docker:index/container:Container"
_NETWORK = "docker:index/network:Network"
_INFRA = Path(infra.program.__file__).resolve().parent


class StackCorrupt(Exception):
    """The engine's record of a stack cannot be read."""


@dataclass(frozen=True, slots=True)
class EngineLock:
    """A lock that an engine put beside the state, and that it leaves behind when it is killed."""

    host: str
    pid: int

    def is_held(self) -> bool:
        """Whether its engine may still be at work; on another host one cannot know."""
        if self.host != socket.gethostname():
            return True
        try:
            name = Path(f"/proc/{self.pid}/comm").read_text().strip()
        except OSError:
            return False
        return name == "pulumi"

    def end_plugins(self) -> None:
        """End what a killed engine has left running: its plugins notice that it is gone only after minutes."""
        if self.host != socket.gethostname() or self.pid <= 1 or Path(f"/proc/{self.pid}").exists():
            return
        end_session(self.pid)


@dataclass(frozen=True, slots=True)
class Record:
    """What the engine remembers of a stack."""

    #: Outputs of the stack.
    outputs: Mapping[str, Any]
    #: URNs of its resources, by their types.
    urns: Mapping[str, str]
    #: How many operations it began and did not see end.
    pending: int

    @property
    def has_container(self) -> bool:
        """Whether it knows of the instance's container."""
        return _CONTAINER in self.urns

    @property
    def has_network(self) -> bool:
        """Whether it knows of the host's bridge."""
        return _NETWORK in self.urns


class StackFolder:
    """A stack's folder, which is also the engine's working directory."""

    def __init__(self, path: Path, stack: str) -> None:
        self.path = path
        self.stack = stack
        self.settings = path / f"Pulumi.{stack}.yaml"
        self._backend = path / "backend"
        self._state = self._backend / ".pulumi"
        self._checkpoint = self._state / "stacks" / PROJECT / f"{stack}.json"

    @property
    def backend_url(self) -> str:
        """The state backend, as `PULUMI_BACKEND_URL` wants it.

        Each file is replaced as a whole; a second one with its attributes is not, and an engine that is killed between
        the two cannot read the state any more. So there is none.
        """
        return self._backend.resolve().as_uri() + "?metadata=skip"

    def exists(self) -> bool:
        """Whether the engine knows the stack."""
        return self._checkpoint.exists()

    def prepare(self, config: Mapping[str, str]) -> None:
        """Write the project and the configuration, where they are not so already; the secrets' salt stays."""
        self._backend.mkdir(mode=0o700, parents=True, exist_ok=True)
        project = {"name": PROJECT, "main": str(_INFRA), "runtime": "python"}
        _write(self.path / "Pulumi.yaml", yaml.safe_dump(project, sort_keys=False))
        _write(self.settings, self._with_salt(config))

    def configuration_for(self, config: Mapping[str, str], path: Path) -> None:
        """Write another configuration of the same stack to `path`."""
        _write(path, self._with_salt(config))

    def configuration(self) -> dict[str, str]:
        """The configuration, by qualified keys; empty where there is none."""
        found = self._settings().get("config")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def _with_salt(self, config: Mapping[str, str]) -> str:
        kept = {key: value for key, value in self._settings().items() if key != "config"}
        return str(yaml.safe_dump({"config": dict(config), **kept}, sort_keys=False))

    def _settings(self) -> dict[str, Any]:
        try:
            found = yaml.safe_load(self.settings.read_text())
        except (FileNotFoundError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    def record(self) -> Record:
        """Read what the engine remembers; raises :class:`StackCorrupt`."""
        try:
            latest = json.loads(self._checkpoint.read_text())["checkpoint"].get("latest") or {}
            resources = latest.get("resources") or []
            return Record(
                outputs=next((found.get("outputs", {}) for found in resources if _is_root(found)), {}),
                urns={found["type"]: found["urn"] for found in resources},
                pending=len(latest.get("pending_operations") or []),
            )
        except FileNotFoundError:
            return Record(outputs={}, urns={}, pending=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackCorrupt(f"{self._checkpoint} cannot be read ({error}).") from None

    def forget(self) -> None:
        """Make the engine forget the stack; what it declared stays as it is."""
        for path in self._checkpoint.parent.glob(f"{self.stack}.json*"):
            path.unlink(missing_ok=True)

    def locks(self) -> dict[Path, EngineLock]:
        """The engine's locks, by their files."""
        found = {}
        for path in (self._state / "locks").glob(f"**/{self.stack}/*.json"):
            with contextlib.suppress(FileNotFoundError):
                found[path] = _lock(path)
        return found

    def prune(self, keep: int) -> None:
        """Keep the last `keep` updates of the history and of the state's backups."""
        for folder, patterns in (
            ("history", ("*.history.json", "*.checkpoint.json")),
            ("backups", ("*.json",)),
        ):
            for pattern in patterns:
                # The names hold the time in nanoseconds.
                files = sorted((self._state / folder / PROJECT / self.stack).glob(pattern))
                for path in files[: max(0, len(files) - keep)]:
                    path.unlink(missing_ok=True)
        for path in self._checkpoint.parent.glob("*.tmp"):
            # Of an engine that was killed while it wrote.
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder; the engine's record first, so that a half-removed folder is none with a stack."""
        self.forget()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def try_hold(self) -> int | None:
        """Take the folder for this process, made where it is missing.

        Returns:
            A descriptor that holds it until it is closed; None where another process has it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who had it may have removed the folder, and another may have made it anew.
            if self.path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None


def _is_root(resource: Mapping[str, Any]) -> bool:
    return bool(resource["type"] == "pulumi:pulumi:Stack")


def _lock(path: Path) -> EngineLock:
    try:
        found = json.loads(path.read_text())
        return EngineLock(host=str(found["hostname"]), pid=int(found["pid"]))
    except (ValueError, KeyError, TypeError):
        # Cut off while it was written: nobody holds it.
        return EngineLock(host=socket.gethostname(), pid=0)


def _write(path: Path, text: str) -> None:
    """Put the text there unless it is there already; a reader sees the old file or the new one, never a part."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
