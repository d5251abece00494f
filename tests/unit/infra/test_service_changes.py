"""What of a host makes its services start anew, as the engine sees it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pulumi
import pytest

from infra.look import HostState
from infra.service import Release, Service, ServiceSpec
from infra.steps import Steps

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SPEC = ServiceSpec(release=Release("0.1.0-0123456789ab", b"archive"), gateway=IPv4Address("10.86.0.1"))


def _program(token: str, facts: str) -> Callable[[], None]:
    def program() -> None:
        steps = Steps(None, look=lambda _target: HostState("debian 12", True, "1700"))
        Service(
            "service", SPEC, steps, {"telegram_token": pulumi.Output.secret(token)}, pulumi.Output.from_input(facts)
        )

    return program


def _change_over(declare: Any, given: str = "1:first", facts: str = "{}") -> dict[str, Any]:
    declared = declare("host", _program(given, facts), {})
    [found] = [args.inputs for args in declared.declared if args.name == "service" and args.typ.endswith(":Command")]
    stdin: dict[str, Any] = found["stdin"]
    return stdin


def test_another_secret_or_another_fact_is_another_step(declare: Any) -> None:
    first = _change_over(declare)
    assert _change_over(declare) == first
    assert _change_over(declare, given="1:second") != first
    assert _change_over(declare, facts='{"runtime": "runsc"}') != first


def test_what_the_step_is_told_of_a_secret_is_a_secret_and_not_the_secret(declare: Any) -> None:
    stdin = _change_over(declare)
    # As the engine marks what it encrypts.
    assert stdin.keys() == {"4dabf18193072939515e22adb298388d", "value"}
    assert "1:first" not in stdin["value"]
