"""All of a host but its service, as strangers see it: meddled with, booted again, and taken back."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from bot.provisioner.containers import Containers
from bot.provisioner.stacks import StackFailed, StackManager
from bot.toolchain import Toolchain
from infra.spec import HostSpec
from infra.target import Target
from tests.vm.machine import PATIENCE_S, Agent, Disk, Vm, VmError
from tests.vm.outside import EVA, EVA6, OTTO, VM4, VM6, Outside, vm_seen_from_outside

PUBLISHED = 8443
#: What a stranger may find.
ALLOWED = {22: "open", 443: "closed"}
COMMON_UDP = "53,67-69,111,123,137,161,443,500,514,520,631,1194,1701,1900,3128,3478,4500,5353,5355,8081,11211,51820"
#: Where qemu's user network has the one who works on the VM, and its resolver.
OPERATOR, FORWARDER = "10.0.2.2", "10.0.2.3"


class Operator:
    """Works on the host's stack."""

    def __init__(self, state: Path, spec: HostSpec) -> None:
        self._state = state
        self.spec = spec

    def up(self) -> dict[str, int]:
        """The number of resources by what was done to them."""
        return dict(self._with(lambda stacks: stacks.host_up(self.spec)).changes)

    def preview(self) -> tuple[dict[str, int], str]:
        """What would be done, and what is told of it."""
        shown = self._with(lambda stacks: stacks.host_preview(self.spec))
        return dict(shown.changes), shown.text

    def down(self) -> None:
        """Take the host back."""
        self._with(lambda stacks: stacks.host_down())

    def _with(self, work: Callable[[StackManager], Any]) -> Any:
        async def go() -> Any:
            async with Containers.connect() as containers:
                stacks = StackManager(Toolchain.from_pins(), self._state, containers, timeout=1800)
                try:
                    return await work(stacks)
                finally:
                    await stacks.close()

        return asyncio.run(go())


@pytest.fixture(scope="module")
def seen(disk: Disk, agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vm, Outside]]:
    """A VM with people on two sides."""
    with vm_seen_from_outside(disk, agent, tmp_path_factory.mktemp("vm")) as seen:
        yield seen


@pytest.fixture(scope="module")
def vm(seen: tuple[Vm, Outside]) -> Vm:
    """It, from the operator's side."""
    return seen[0]


@pytest.fixture(scope="module")
def outside(seen: tuple[Vm, Outside]) -> Outside:
    """Its strangers."""
    return seen[1]


@pytest.fixture(scope="module")
def operator(vm: Vm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Works on the VM as a host with all that instances' policies need."""
    spec = HostSpec(
        image="sha256:" + "a" * 64,
        host_file="/var/lib/zaki/host.json",
        host_swap_mib=0,
        target=Target.parse(f"ssh://{vm.user}@127.0.0.1:{vm.port}", vm.host_key),
        egress_lists={"standard": (".example.org",)},
        forwarders=(IPv4Address(FORWARDER),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSH_AUTH_SOCK", vm.environment["SSH_AUTH_SOCK"])
        yield Operator(tmp_path_factory.mktemp("state"), spec)


def wait_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for it, as long as an emulated machine may take; the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > PATIENCE_S:
            raise VmError(f"{what} did not come within {PATIENCE_S:.0f} s.")
        time.sleep(0.5)
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def before(vm: Vm, operator: Operator) -> str:
    """The machine with somebody's own rules of UFW, after an `up` that would have locked the operator out.

    The rule that does so is somebody's own too: UFW was off, so nobody had noticed.
    """
    vm.run("apt-get update -q && apt-get install -q -y --no-install-recommends ufw")
    vm.run(f"ufw deny from {OPERATOR}")
    with pytest.raises(StackFailed):
        operator.up()
    wait_until(lambda: vm.run("true", check=False, timeout=20).returncode == 0, "the way back in")
    wait_until(lambda: vm.run("test -e /var/lib/zaki/steps/ufw", check=False).returncode == 1, "the end of the undoing")
    assert vm.read("ufw status") == "Status: inactive"
    assert vm.read("ufw show added").splitlines()[1:] == [f"ufw deny from {OPERATOR}"]
    vm.run(f"ufw delete deny from {OPERATOR}")
    vm.run(
        "ufw allow OpenSSH && ufw allow 443/tcp comment mine && ufw default reject incoming && "
        "ufw allow from 203.0.113.5 to any port 8022 proto tcp && ufw --force enable"
    )
    return vm.read("ufw show added")


@pytest.fixture(scope="module")
def host(vm: Vm, operator: Operator, before: str) -> Vm:
    """The host, with a container that Docker publishes a port of."""
    print("up:", operator.up())
    # As small as a container can be.
    vm.run(
        "tar --create --dereference /usr/bin/sleep /lib/x86_64-linux-gnu/libc.so.6 /lib64/ld-linux-x86-64.so.2 | "
        "docker import - tiny:1"
    )
    vm.run(f"docker run --detach --restart always --name published --publish {PUBLISHED}:80 tiny:1 /usr/bin/sleep inf")
    return vm


def test_up_that_locks_the_operator_out_takes_itself_back(before: str) -> None:
    # All of it is in the fixture, whose machine the rest goes on with.
    assert "8022" in before


def test_second_up_changes_nothing_and_somebodys_own_rules_stay(host: Vm, operator: Operator, before: str) -> None:
    assert operator.up().keys() == {"same"}
    added = host.read("ufw show added").splitlines()
    theirs = [line for line in added if not line.endswith("comment 'zaki'")]
    assert theirs == before.splitlines()
    ours = [line for line in added if line.endswith("comment 'zaki'")]
    # Theirs for HTTPS is as good.
    assert ours == [
        "ufw allow 22/tcp comment 'zaki'",
        "ufw allow in on zaki0 to 10.86.0.1 port 8081 proto tcp comment 'zaki'",
        "ufw allow in on zaki0 to 10.86.0.1 port 3128 proto tcp comment 'zaki'",
        "ufw allow in on zaki0 to 10.86.0.1 port 53 comment 'zaki'",
        "ufw route allow in on zaki0 comment 'zaki'",
    ]
    assert "Default: deny (incoming)" in host.read("ufw status verbose")
    for service in ("zaki-resolver", "zaki-proxy", "docker", "fail2ban"):
        assert host.read(f"systemctl is-active {service}") == "active"


@pytest.mark.parametrize("address", [VM4, VM6])
def test_strangers_find_ssh_and_https_and_nothing_else(host: Vm, outside: Outside, address: str) -> None:
    assert outside.scan(address, "1-65535") == ALLOWED
    assert outside.scan(address, COMMON_UDP, udp=True) == {}


def test_port_that_docker_publishes_stays_shut_by_the_firewall_alone(host: Vm, outside: Outside) -> None:
    host.run("systemctl stop zaki-firewall-check.timer && nft flush chain inet zaki between_others")
    # Past UFW, as Docker has it: the container itself says that nobody listens.
    assert outside.scan(VM4, f"22,443,{PUBLISHED}") == {**ALLOWED, PUBLISHED: "closed"}
    host.run("systemctl start zaki-firewall-check.timer")
    spent = wait_until(lambda: outside.scan(VM4, f"22,443,{PUBLISHED}") == ALLOWED, "the rule that was deleted")
    print(f"put back after {spent:.0f} s")
    assert "it is put back" in host.read("journalctl --unit zaki-firewall-check --grep 'put back' --no-pager")


@pytest.mark.parametrize("here", [EVA, EVA6])
def test_one_address_opens_no_more_than_sixty_connections_to_ssh_a_minute(
    host: Vm, outside: Outside, here: str
) -> None:
    answered, spent = outside.connections(100, 22, here=here)
    assert 60 <= answered <= 60 + spent + 1
    # Others get in.
    assert outside.gets_in(22, here=OTTO)


def test_containers_see_nothing_of_one_another_and_none_speaks_as_the_gateway(host: Vm) -> None:
    host.put(Path(__file__).parent / "frames.py", "/root/frames.py")
    for name in ("anna", "bert"):
        host.run(f"docker run --detach --network zaki0 --name {name} tiny:1 /usr/bin/sleep inf")
    forge = (
        "python3 /root/frames.py $(docker inspect --format '{{.State.Pid}}' anna) "
        "$(docker inspect --format '{{.State.Pid}}' bert) zaki0"
    )
    try:
        assert json.loads(host.read(forge)) == {"host": ["asks", "last"], "neighbour": ["last"]}
        host.run("systemctl stop zaki-firewall-check.timer && nft delete table bridge zaki")
        unguarded = json.loads(host.read(forge))
    finally:
        host.run(
            "docker rm --force anna bert; systemctl reload zaki-firewall; systemctl start zaki-firewall-check.timer"
        )
    # They do arrive where nothing stops them, but for IP, which the other table knows by br_netfilter.
    forged = {"as-gateway", "as-stranger", "other"}
    assert forged < set(unguarded["host"])
    assert forged | {"asks", "as-gateway-to-neighbour"} < set(unguarded["neighbour"])
    assert not {"ipv4", "ipv6"} & set(unguarded["neighbour"])


def test_five_bad_log_ins_ban_an_address_until_somebody_lifts_it(host: Vm, outside: Outside) -> None:
    assert outside.gets_in(22)
    for _ in range(5):
        bad = [
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        assert outside.run("ssh", *bad, "-b", EVA, f"nobody-here@{VM4}", check=False).returncode == 255
    wait_until(lambda: EVA in host.read("fail2ban-client get sshd banip"), "the ban")
    wait_until(lambda: not outside.gets_in(22), "the ban in the kernel")
    assert outside.gets_in(22, here=OTTO)
    host.run(f"fail2ban-client set sshd unbanip {EVA}")
    assert outside.gets_in(22)


def test_what_the_front_refuses_bans_from_the_webhook_alone(host: Vm, outside: Outside) -> None:
    host.run("systemd-run --unit=listener python3 -m http.server 443")
    wait_until(lambda: outside.gets_in(443), "something at port 443")
    try:
        host.run(
            f"systemd-run --wait --unit=zaki-front bash -c 'for _ in 1 2 3 4 5; do echo zaki refused {EVA}; done; "
            f"for _ in 1 2 3 4 5; do echo said: zaki refused {OTTO}; done'"
        )
        wait_until(lambda: EVA in host.read("fail2ban-client get zaki banip"), "the ban")
        wait_until(lambda: not outside.gets_in(443), "the ban in the kernel")
        assert outside.gets_in(443, here=OTTO)
        assert outside.gets_in(22)
        host.run(f"fail2ban-client set zaki unbanip {EVA}")
        assert outside.gets_in(443)
    finally:
        host.run("systemctl stop listener")


def test_what_was_done_by_hand_is_shown_and_put_right(host: Vm, operator: Operator, outside: Outside) -> None:
    host.run(
        "systemctl disable --now zaki-firewall-check.timer && systemctl disable zaki-firewall zaki-resolver && "
        "systemctl disable --now fail2ban && ufw disable && "
        # It flushes all there is: ours, UFW's and Docker's.
        "systemctl unmask nftables && systemctl start nftables"
    )
    assert "inet zaki" not in host.read("nft list tables")
    changes, text = operator.preview()
    for what in (
        "zaki-firewall.service is not started at boot",
        "zaki-firewall-check.timer does not run",
        "nftables.service is not masked",
        "The firewall is not as it was loaded",
        "UFW is off",
        "zaki-resolver.service is not started at boot",
        "fail2ban has no jail sshd",
        "Docker's rules are gone",
    ):
        assert what in text
    assert changes["update"] >= 5
    operator.up()
    assert operator.preview()[0].keys() == {"same"}
    assert outside.scan(VM4, f"22,443,{PUBLISHED}") == ALLOWED
    assert "MASQUERADE" in host.read("iptables -t nat -S POSTROUTING")


def test_reboot_brings_all_of_it_before_docker(host: Vm, operator: Operator, outside: Outside) -> None:
    boot = host.read("cat /proc/sys/kernel/random/boot_id")
    host.reset()
    wait_until(
        lambda: (
            host.run("cat /proc/sys/kernel/random/boot_id", check=False, timeout=30).stdout.strip() not in ("", boot)
        ),
        "the boot",
    )
    host.wait()
    loaded, started = (
        int(host.read(f"systemctl show --property {when} --value {unit}"))
        for unit, when in (
            ("zaki-firewall.service", "ExecMainExitTimestampMonotonic"),
            ("docker.service", "ExecMainStartTimestampMonotonic"),
        )
    )
    assert 0 < loaded < started
    assert host.read("docker inspect --format '{{.State.Running}}' published") == "true"
    assert outside.scan(VM4, f"22,443,{PUBLISHED}") == ALLOWED
    assert outside.scan(VM6, f"22,443,{PUBLISHED}") == ALLOWED
    assert operator.preview()[0].keys() == {"same"}


def test_down_gives_everything_back(host: Vm, operator: Operator, before: str) -> None:
    host.run("docker rm --force published")
    operator.down()
    assert host.read("ufw show added") == before
    assert "Default: reject (incoming)" in host.read("ufw status verbose")
    assert not re.search("zaki", host.read("nft list tables"))
    assert host.read("systemctl is-enabled nftables unbound squid 2>/dev/null || true").split()[0] != "masked"
    assert host.run("ls /usr/sbin/unbound /usr/sbin/squid /usr/bin/fail2ban-client", check=False).stdout == ""
    left = host.read("find /etc /run /usr/local /var/lib/zaki -name '*zaki*' 2>/dev/null || true")
    assert left == ""
