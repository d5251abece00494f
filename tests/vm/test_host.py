"""A bare Debian becomes a host over SSH, stays one, survives cuts in the middle, and becomes what it was again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackFailed, StackManager, StackTimeout
from bot.toolchain import Toolchain
from infra.spec import HostSpec
from infra.target import Target
from tests.vm.machine import Vm
from tests.vm.wire import Wire

IMAGE = "sha256:" + "a" * 64
#: How often the way in is cut while the host is made; a bench may ask for more.
CUTS = int(os.environ.get("ZAKI_TEST_CUTS", "3"))


@pytest.fixture(scope="module")
def wire(vm: Vm) -> Iterator[Wire]:
    """The way to the VM on which the engine works, which the test's own log-ins do not take."""
    wire = Wire(vm.port)
    try:
        yield wire
    finally:
        wire.close()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the host's stack, which the tests of this module share."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
async def stacks(state: Path, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StackManager]:
    """A manager of the host's stack, with the SSH agent of the session."""
    monkeypatch.setenv("SSH_AUTH_SOCK", vm.environment["SSH_AUTH_SOCK"])
    async with Containers.connect() as containers:
        stacks = StackManager(Toolchain.from_pins(), state, containers, timeout=1200)
        try:
            yield stacks
        finally:
            await stacks.close()


@pytest.fixture
def spec(wire: Wire, vm: Vm) -> HostSpec:
    """The VM as a host."""
    return HostSpec(
        image=IMAGE,
        host_file="/var/lib/zaki/host.json",
        host_swap_mib=256,
        target=Target.parse(f"ssh://{vm.user}@127.0.0.1:{wire.port}", vm.host_key),
    )


async def test_another_host_key_stops_everything_before_it_begins(stacks: StackManager, spec: HostSpec) -> None:
    assert spec.target is not None
    other = spec.target.host_key[:-4] + "AAAA"
    with pytest.raises(StackFailed, match="shows another host key than zaki:host_key"):
        await stacks.host_up(replace(spec, target=replace(spec.target, host_key=other)))


async def test_user_without_sudo_is_told_what_is_missing(stacks: StackManager, spec: HostSpec) -> None:
    assert spec.target is not None
    with pytest.raises(StackFailed, match="lets guest become root only with a password; allow it"):
        await stacks.host_up(replace(spec, target=replace(spec.target, user="guest")))


async def test_full_disk_is_told_before_anything_is_done(stacks: StackManager, spec: HostSpec, vm: Vm) -> None:
    vm.run("fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 100000000)) /filler")
    try:
        with pytest.raises(StackFailed, match=r"MiB left on /, and 300 are needed; free some room there"):
            await stacks.host_up(spec)
    finally:
        vm.run("rm /filler")
    assert vm.run("test -e /var/lib/zaki", check=False).returncode == 1


async def test_up_that_is_cut_again_and_again_is_finished_by_the_next(
    stacks: StackManager, spec: HostSpec, vm: Vm, wire: Wire
) -> None:
    chance = random.Random(20261125)  # noqa: S311 - which moments, not a secret
    for _ in range(CUTS):
        cutter = threading.Timer(chance.uniform(2, 60), wire.cut)
        cutter.start()
        try:
            with contextlib.suppress(StackFailed, StackTimeout):
                await stacks.host_up(spec)
        finally:
            cutter.cancel()
            cutter.join()
        # Over a new connection, every time.
        assert vm.read("id -u") == "0"
    await stacks.host_up(spec)
    assert (await stacks.host_up(spec)).changes.keys() == {"same"}
    assert vm.run("ls /etc/systemd/system | grep zaki-revert", check=False).stdout == ""


async def test_host_is_what_was_declared(vm: Vm, stacks: StackManager, spec: HostSpec) -> None:
    await stacks.host_up(spec)
    said = vm.read("sshd -T")
    assert {"passwordauthentication no", "permitrootlogin no"} <= set(said.splitlines())
    assert vm.read("docker info --format '{{.LiveRestoreEnabled}} {{.LoggingDriver}}'") == "true local"
    assert vm.read("docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' zaki0") == "10.86.0.0/16"
    assert (
        vm.read("sysctl --values fs.inotify.max_user_instances net.bridge.bridge-nf-call-iptables") == "2147483647\n1"
    )
    assert "zaki" in vm.read("fail2ban-client status")
    assert f'"image": "{IMAGE}"' in vm.read("cat /var/lib/zaki/host.json")


async def test_what_was_changed_by_hand_is_shown_and_put_right(vm: Vm, stacks: StackManager, spec: HostSpec) -> None:
    await stacks.host_up(spec)
    vm.run(
        "echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/10-zaki.conf && systemctl reload ssh && "
        "systemctl --quiet disable --now docker.service docker.socket && "
        "sysctl -qw fs.inotify.max_user_instances=128"
    )
    shown = await stacks.host_preview(spec)
    assert shown.changes["update"] >= 4
    for what in (
        "10-zaki.conf was edited",
        "docker.service does not run",
        "fs.inotify.max_user_instances is not 2147483647",
    ):
        assert what in shown.text
    await stacks.host_up(spec)
    assert (await stacks.host_preview(spec)).changes.keys() == {"same"}
    assert "passwordauthentication no" in vm.read("sshd -T")
    assert vm.read("systemctl is-active docker") == "active"


async def test_bans_come_of_the_fronts_line_alone(vm: Vm, stacks: StackManager, spec: HostSpec) -> None:
    await stacks.host_up(spec)
    tried = vm.read(
        "printf 'Nov 25 04:00:00 vm zaki-front[7]: %s\\n' 'zaki refused 192.0.2.7' 'said: zaki refused 192.0.2.8' "
        "'zaki refused 192.0.2.9 x' >/tmp/lines && fail2ban-regex --print-all-matched /tmp/lines "
        "/etc/fail2ban/filter.d/zaki.conf"
    )
    assert re.search(r"\b1 matched, 2 missed", tried), tried


async def test_down_leaves_the_machine_as_it_was(vm: Vm, stacks: StackManager, spec: HostSpec) -> None:
    await stacks.host_up(spec)
    await stacks.host_down()
    left: dict[str, Any] = {
        path: vm.run(f"test -e {path}", check=False).returncode == 0
        for path in (
            "/etc/ssh/sshd_config.d/10-zaki.conf",
            "/etc/sysctl.d/60-zaki.conf",
            "/etc/docker/daemon.json",
            "/var/lib/zaki/steps",
            "/var/lib/zaki/host.json",
        )
    }
    assert not any(left.values()), left
    assert "passwordauthentication yes" in vm.read("sshd -T")
    assert vm.run("command -v dockerd fail2ban-client", check=False).stdout == ""
    assert vm.read("sysctl --values fs.inotify.max_user_instances") == "128"
