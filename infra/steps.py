"""Steps: small repeatable scripts, with their files, that make a machine what a host is; each can be taken back.

A step runs as root in a unit of its own, so a connection that is cut ends the waiting and not the step; the next run
waits for it and goes on. What a step left on the machine is looked at before every run: one that was meddled with runs
again (see `look.py`). The last undo also takes back the steps that failed before Pulumi knew of them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import pulumi
from pulumi_command import local, remote

from infra.look import HostState, look
from infra.target import Target

__all__ = ["HostFile", "Steps", "Target"]

_LIBRARY = (Path(__file__).parent / "step.sh").read_text()
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_PATH = re.compile(r"/[A-Za-z0-9@._/-]+")
_OWNER = re.compile(r"[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*")
_NO_FILES: Mapping[str, HostFile] = MappingProxyType({})

#: Stores what comes on standard input where root alone can read it, and runs that: no secret is on a command line.
_START = """\
keep='set -eu; umask 077; mkdir -p /run/zaki-steps; file=$(mktemp /run/zaki-steps/XXXXXX); cat >"$file"; \
exec bash -euo pipefail "$file" "$@"'
[ "$(id -u)" = 0 ] && exec bash -c "$keep" zaki-step "$@"
sudo -n true 2>/dev/null || { echo "Only root may do this: let this user run sudo without a password." >&2; exit 1; }
exec sudo -n bash -c "$keep" zaki-step "$@"
"""


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file that a step puts in place, whole or not at all."""

    content: pulumi.Input[str]
    mode: int = 0o644
    #: `user:group`.
    owner: str = "root:root"


class Steps:
    """Declares steps on one machine."""

    def __init__(self, target: Target | None, look: Callable[[Target | None], HostState] = look) -> None:
        """Work on a machine behind SSH, or on this one.

        Args:
            target: The machine; None is this one.
            look: How its present state is found.
        """
        self._target = target
        self._look = look

    @cached_property
    def found(self) -> HostState:
        """The machine as it was before this run.

        Raises:
            HostTrouble: Nobody gets in, or it cannot become a host.
        """
        return self._look(self._target)

    def run(
        self,
        name: str,
        do: str,
        *,
        undo: str | None = None,
        check: str | None = None,
        files: Mapping[str, HostFile] = _NO_FILES,
        secret: pulumi.Input[str] | None = None,
        provisional_s: int | None = None,
        parent: pulumi.Resource,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> pulumi.Resource:
        """Declare a step: its files are put in place, then its script runs.

        The scripts are bash, run as root with `set -euo pipefail`, and may be run again at any time. `do` and `undo`
        have the functions `apt_install PACKAGE…`, whose packages go again with the step, `make_folder PATH`,
        `restore_files` and `fail SENTENCE` (see `step.sh`).

        Args:
            name: Lower-case letters, digits and hyphens; also in the name of its unit, `zaki-step-NAME`.
            do: Makes it so, with the files already there.
            undo: Takes back what `do` did, with the files still there; they are removed, or what was there before comes
                back, afterwards.
            check: Prints a line for everything that is not any more as `do` left it, and changes nothing.
            files: By their absolute path.
            secret: Standard input of `do`; nothing of it is written down.
            provisional_s: The step is taken back after so many seconds, unless a new connection comes in before.
            parent: The component that it belongs to.
            depends_on: What has to be there before.

        Returns:
            What the next step may depend on.

        Raises:
            ValueError: The name or a file's path, owner or mode is none.
            HostTrouble: The machine cannot be worked on.
        """
        _validate(name, files)
        token = self.found.token(name)
        for what in self.found.drift.get(name, ()):
            pulumi.log.warn(f"{name}: {what}; it is put right.", parent)
        program = pulumi.Output.all(
            contents={path: file.content for path, file in files.items()}, secret=secret or ""
        ).apply(
            lambda known: render_program(
                do,
                undo=undo or "",
                check=check or "",
                files={path: (file.mode, file.owner, known["contents"][path]) for path, file in files.items()},
                secret=known["secret"],
                provisional_s=provisional_s,
            )
        )
        if secret is not None:
            program = pulumi.Output.secret(program)
        options = pulumi.ResourceOptions(parent=parent, depends_on=[self._records, *depends_on])
        step = self._command(name, program, _start("do", name, token), _start("undo", name, token), options)
        if provisional_s is None:
            return step
        return self._command(
            f"{name}-proven",
            program,
            _start("prove", name, token),
            None,
            pulumi.ResourceOptions(parent=parent, depends_on=[step]),
        )

    @cached_property
    def _records(self) -> pulumi.Resource:
        """The step before all others, so that its undo is the last one: it takes back the steps that are left.

        Those are the ones that failed at their first run, which are in no state of Pulumi's. Without a parent its name
        depends on nothing that may change: a new one would take the old one away, and with it every step.
        """
        name, token = "records", self.found.token("records")
        program = pulumi.Output.from_input(
            render_program("", undo="undo_rest\n", check="", files={}, secret="", provisional_s=None)
        )
        options = pulumi.ResourceOptions()
        return self._command(name, program, _start("do", name, token), _start("undo", name, token), options)

    def _command(
        self, name: str, stdin: pulumi.Output[str], create: str, delete: str | None, opts: pulumi.ResourceOptions
    ) -> pulumi.Resource:
        if self._target is None:
            return local.Command(
                name,
                create=create,
                delete=delete,
                stdin=stdin,
                logging=local.Logging.NONE,
                add_previous_output_in_env=False,
                opts=opts,
            )
        return remote.Command(
            name,
            connection=remote.ConnectionArgs(
                host=self._target.host,
                port=self._target.port,
                user=self._target.user,
                host_key=self._target.host_key,
                dial_error_limit=3,
            ),
            create=create,
            delete=delete,
            stdin=stdin,
            logging=remote.Logging.NONE,
            add_previous_output_in_env=False,
            opts=opts,
        )


def render_program(
    do: str,
    *,
    undo: str,
    check: str,
    files: Mapping[str, tuple[int, str, str]],
    secret: str,
    provisional_s: int | None,
) -> str:
    """The bash program of a step, to be called with `do|undo|prove NAME TOKEN`.

    Args:
        do: See :meth:`Steps.run`, as for the rest.
        undo: May be empty.
        check: May be empty.
        files: Mode, owner and content, by path.
        secret: May be empty.
        provisional_s: See there.
    """
    puts = [
        f"  put_file {shlex.quote(path)} {mode:04o} {owner} {shlex.quote(content)}"
        for path, (mode, owner, content) in sorted(files.items())
    ]
    return "\n".join(
        [
            f"step_do={shlex.quote(do)}",
            f"step_undo={shlex.quote(undo)}",
            f"step_check={shlex.quote(check)}",
            f"step_secret={shlex.quote(secret)}",
            f"step_provisional={provisional_s or ''}",
            "step_files() {",
            "  :",
            *puts,
            "}",
            _LIBRARY,
            # Last, so that half a program does nothing.
            'main "$@"',
            "",
        ]
    )


def _start(action: str, name: str, token: str) -> str:
    return shlex.join(["sh", "-c", _START, "zaki-step", action, name, token])


def _validate(name: str, files: Mapping[str, HostFile]) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a step; use lower-case letters, digits and hyphens.")
    for path, file in files.items():
        if not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise ValueError(f"{path!r} is no absolute path of plain characters.")
        if not _OWNER.fullmatch(file.owner) or not 0 <= file.mode <= 0o7777:
            raise ValueError(
                f"{path} has the owner {file.owner!r} and the mode {file.mode:o}; give user:group and a mode."
            )
