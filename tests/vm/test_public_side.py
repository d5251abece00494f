"""The host as strangers see it: from outside, meddled with, and booted again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vm.conftest import PUBLISHED
from tests.vm.machine import Vm, wait_until
from tests.vm.operator import Operator
from tests.vm.outside import EVA, EVA6, OTTO, VM4, VM6, Outside

#: What a stranger may find.
ALLOWED = {22: "open", 443: "closed"}
COMMON_UDP = "53,67-69,111,123,137,161,443,500,514,520,631,1194,1701,1900,3128,3478,4500,5353,5355,8081,11211,51820"
#: As whoever has no secret asks the front, behind the TLS proxy.
_STRANGERS_UPDATE = """\
import sys, urllib.error, urllib.request
for _ in range(5):
    asked = urllib.request.Request(
        "http://127.0.0.1:8080/telegram/webhook", b"{}", {"X-Forwarded-For": sys.argv[1]}
    )
    try:
        urllib.request.urlopen(asked)
    except urllib.error.HTTPError as answer:
        assert answer.code == 401, answer
"""


def test_up_that_locks_the_operator_out_takes_itself_back(before: str) -> None:
    # All of it is in the fixture, whose machine the rest goes on with.
    assert "8022" in before


async def test_second_up_changes_nothing_and_somebodys_own_rules_stay(
    host: Vm, operator: Operator, before: str
) -> None:
    assert (await operator.up())["changed"] is False
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


def test_host_is_what_was_declared(host: Vm) -> None:
    said = host.read("sshd -T")
    assert {"passwordauthentication no", "permitrootlogin no"} <= set(said.splitlines())
    assert host.read("docker info --format '{{.LiveRestoreEnabled}} {{.LoggingDriver}}'") == "true local"
    assert host.read("docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' zaki0") == "10.86.0.0/16"
    limits = host.read("sysctl --values fs.inotify.max_user_instances net.bridge.bridge-nf-call-iptables")
    assert limits == "2147483647\n1"
    assert host.run("ls /etc/systemd/system | grep zaki-revert", check=False).stdout == ""


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
        host.run(f"python3 - {EVA}", stdin=_STRANGERS_UPDATE)
        wait_until(lambda: EVA in host.read("fail2ban-client get zaki banip"), "the ban")
        wait_until(lambda: not outside.gets_in(443), "the ban in the kernel")
        assert outside.gets_in(443, here=OTTO)
        assert outside.gets_in(22)
        host.run(f"fail2ban-client set zaki unbanip {EVA}")
        assert outside.gets_in(443)
    finally:
        host.run("systemctl stop listener")


async def test_what_was_done_by_hand_is_shown_and_put_right(host: Vm, operator: Operator, outside: Outside) -> None:
    host.run(
        "echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/10-zaki.conf && systemctl reload ssh && "
        "sysctl -qw fs.inotify.max_user_instances=128 && "
        "systemctl disable --now zaki-firewall-check.timer && systemctl disable zaki-firewall zaki-resolver && "
        "systemctl disable --now fail2ban && ufw disable && "
        # It flushes all there is: ours, UFW's and Docker's.
        "systemctl unmask nftables && systemctl start nftables"
    )
    assert "inet zaki" not in host.read("nft list tables")
    shown = await operator.preview()
    for what in (
        "10-zaki.conf was edited",
        "fs.inotify.max_user_instances is not 2147483647",
        "zaki-firewall.service is not started at boot",
        "zaki-firewall-check.timer does not run",
        "nftables.service is not masked",
        "The firewall is not as it was loaded",
        "UFW is off",
        "zaki-resolver.service is not started at boot",
        "fail2ban has no jail sshd",
        "Docker's rules are gone",
    ):
        assert what in shown
    await operator.up()
    assert (await operator.up())["changed"] is False
    assert outside.scan(VM4, f"22,443,{PUBLISHED}") == ALLOWED
    assert "MASQUERADE" in host.read("iptables -t nat -S POSTROUTING")
    assert "passwordauthentication no" in host.read("sshd -T")


async def test_reboot_brings_all_of_it_before_docker(host: Vm, operator: Operator, outside: Outside) -> None:
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
    shown = await operator.preview()
    assert (await operator.up())["changed"] is False, shown
