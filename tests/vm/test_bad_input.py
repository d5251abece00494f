"""What an operator is told whose `up` cannot work: one sentence, before anything is done."""

from __future__ import annotations

import pytest

from tests.vm.machine import Vm
from tests.vm.operator import Operator


async def test_another_host_key_stops_everything_before_it_begins(operator: Operator, vm: Vm) -> None:
    other = vm.host_key[:-4] + "AAAA"
    assert "shows another host key than zaki:host_key" in await _refused(operator, {"zaki:host_key": other})


async def test_user_without_sudo_is_told_what_is_missing(operator: Operator) -> None:
    target = operator.target.replace("admin@", "guest@")
    said = await _refused(operator, {"zaki:host_target": target})
    assert "lets guest become root only with a password; allow it" in said


async def test_full_disk_is_told_before_anything_is_done(operator: Operator, vm: Vm) -> None:
    vm.run("fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 100000000)) /filler")
    try:
        assert "MiB left on /, and 300 are needed; free some room there" in await _refused(operator, {})
    finally:
        vm.run("rm /filler")


async def test_port_that_somebody_else_has_is_named(operator: Operator, vm: Vm) -> None:
    vm.run("systemd-run --unit=squatter python3 -m http.server --bind 127.0.0.1 8080")
    try:
        assert "8080" in await _refused(operator, {})
    finally:
        vm.run("systemctl stop squatter")


@pytest.fixture(autouse=True)
def _untouched(vm: Vm) -> None:
    """Nothing was done to the machine."""
    assert vm.run("test -e /var/lib/zaki", check=False).returncode == 1


async def _refused(operator: Operator, config: dict[str, str]) -> str:
    """What the operator is told, with so much of the configuration another one."""
    async with operator.configured(config):
        code, _, said = await operator.zaki("host", "up", "--stack", "vm")
    assert code == 1
    assert operator.vm.run("test -e /var/lib/zaki", check=False).returncode == 1
    return said
