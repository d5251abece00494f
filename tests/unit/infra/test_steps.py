"""What a step is declared as, and the program that it runs."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from infra import checks
from infra.look import HostState
from infra.steps import HostFile, Steps, render_program
from infra.target import Target

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

TARGET = Target(user="admin", host="192.0.2.7", host_key="ssh-ed25519 AAAA", port=2222)
FOUND = HostState("debian 12", True, "1700", tokens={"old": "1600", "bent": "1600"}, drift={"bent": ("it is bent",)})


class _Parent(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("zaki:index:Test", "test")


def _program(target: Target | None, name: str, **options: Any) -> Callable[[], None]:
    def program() -> None:
        Steps(target, look=lambda _target: FOUND).run(name, "do it\n", parent=_Parent(), **options)

    return program


def _commands(recorder: Any) -> dict[str, dict[str, Any]]:
    return {args.name: args.inputs for args in recorder.declared if args.typ.endswith(":Command")}


def test_step_behind_ssh_pins_the_key_and_leaves_logging_in_to_the_agent(declare: Any) -> None:
    step = _commands(declare("host", _program(TARGET, "new"), {}))["new"]
    # The provider's package makes it a secret.
    assert step["connection"]["value"] == {
        "host": "192.0.2.7",
        "port": 2222,
        "user": "admin",
        "hostKey": "ssh-ed25519 AAAA",
        "dialErrorLimit": 3,
        "perDialTimeout": 15,
    }
    assert step["logging"] == "none"
    assert "triggers" not in step


def test_guards_see_into_the_secret_connection_of_a_command(declare: Any) -> None:
    [transform] = declare("host", checks.register, {}).transforms

    async def ask() -> None:
        asked = {"connection": pulumi.Output.secret({"host": "192.0.2.7"}), "logging": "none"}
        await transform(pulumi.ResourceTransformArgs(True, checks.REMOTE, "bare", asked, pulumi.ResourceOptions()))

    with pytest.raises(checks.PolicyViolation, match="does not pin the ed25519 key"):
        asyncio.run(ask())


def test_steps_pass_the_guards(declare: Any) -> None:
    def program() -> None:
        checks.register()
        _program(TARGET, "new")()

    assert list(_commands(declare("host", program, {}))) == ["records", "new"]


def test_only_a_step_that_holds_keeps_its_command(declare: Any) -> None:
    for name, token in (("new", "1700"), ("old", "1600"), ("bent", "1700")):
        step = _commands(declare("host", _program(TARGET, name), {}))[name]
        assert step["create"].endswith(f" zaki-step do {name} {token}")
        assert step["delete"].endswith(f" zaki-step undo {name} {token}")


def test_secret_is_on_standard_input_alone(declare: Any) -> None:
    step = _commands(declare("host", _program(TARGET, "new", secret="tskey-auth"), {}))["new"]
    assert "step_secret=tskey-auth" in str(step.pop("stdin"))
    assert "tskey-auth" not in str(step)


def test_provisional_step_is_proven_by_a_command_of_its_own(declare: Any) -> None:
    commands = _commands(declare("host", _program(None, "new", provisional_s=120), {}))
    assert list(commands) == ["records", "new", "new-proven"]
    assert commands["new-proven"]["create"].endswith(" zaki-step prove new 1700")
    assert "delete" not in commands["new-proven"]


def test_the_step_before_all_others_takes_back_at_the_end_what_is_left(declare: Any) -> None:
    first = _commands(declare("host", _program(TARGET, "new"), {}))["records"]
    assert first["delete"].endswith(" zaki-step undo records 1700")
    assert "step_undo='undo_rest\n'" in str(first["stdin"])


@pytest.mark.parametrize(
    ("name", "files", "complaint"),
    [
        ("A", {}, "cannot name a step"),
        ("x;y", {}, "cannot name a step"),
        ("x", {"etc/x": HostFile("")}, "no absolute path"),
        ("x", {"/etc/../x": HostFile("")}, "no absolute path"),
        ("x", {"/etc/a b": HostFile("")}, "no absolute path"),
        ("x", {"/etc/x": HostFile("", owner="root")}, "give user:group"),
        ("x", {"/etc/x": HostFile("", mode=0o10000)}, "give user:group"),
    ],
)
def test_what_no_step_can_be_is_refused(name: str, files: dict[str, HostFile], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Steps(TARGET, look=lambda _target: FOUND).run(name, "", files=files, parent=None)  # type: ignore[arg-type]


def test_program_is_bash_whatever_it_holds() -> None:
    awkward = "it's \"awkward\" $(id) `id` \\ \n'"
    program = render_program(
        awkward, undo=awkward, check=awkward, files={"/etc/x": (0o600, "root:root", awkward)}, secret=awkward,
        provisional_s=120,
    )  # fmt: skip
    subprocess.run(["bash", "-n"], input=program, text=True, check=True)
    shown = "put_file() { printf '%s|' \"$@\"; }; step_files; printf '%s' \"$step_do\"\nexit\nmain()"
    said = subprocess.run(
        ["bash", "-s"], input=program.replace("main()", shown, 1), text=True, check=True, capture_output=True
    )
    assert said.stdout == f"/etc/x|0600|root:root|{awkward}|{awkward}"
    assert program.rstrip().endswith('\nmain "$@"')
