"""The settings of a host's defences, and the scripts around them."""

from __future__ import annotations

import configparser
import re
import subprocess
from ipaddress import IPv4Address, IPv4Network

import pytest

from infra import hardening
from infra.hardening import HardeningSpec

SPEC = HardeningSpec(ssh_user="admin", subnet=IPv4Network("10.86.0.0/16"))


@pytest.mark.parametrize(("user", "root"), [("admin", "no"), ("root", "prohibit-password")])
def test_nobody_logs_in_with_a_password_and_root_only_where_it_manages_the_host(user: str, root: str) -> None:
    lines = hardening.render_sshd(user).splitlines()
    assert {"PasswordAuthentication no", "KbdInteractiveAuthentication no", f"PermitRootLogin {root}"} <= set(lines)


def test_updates_never_reboot_a_host() -> None:
    assert 'Automatic-Reboot "false"' in hardening.render_updates()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.86.3.4", "149.154.167.99", "91.108.4.5", "100.100.1.2"])
def test_no_ban_hits_telegram_the_instances_or_the_tailnet(address: str) -> None:
    jails = configparser.ConfigParser()
    jails.read_string(hardening.render_jails(SPEC))
    spared = [IPv4Network(part) for part in jails["DEFAULT"]["ignoreip"].split() if ":" not in part]
    assert any(IPv4Address(address) in network for network in spared)
    assert not any(IPv4Address("8.8.8.8") in network for network in spared)
    assert jails["sshd"]["enabled"] == jails["zaki"]["enabled"] == "true"


def test_bans_know_one_line_and_nothing_that_a_stranger_wrote() -> None:
    settings = configparser.RawConfigParser()
    settings.read_string(hardening.render_filter())
    [pattern] = settings["Definition"]["failregex"].splitlines()
    line = re.compile(pattern.replace("<ADDR>", r"(\d+\.\d+\.\d+\.\d+)"))
    assert line.search("zaki refused 192.0.2.7")
    assert not line.search("said: zaki refused 192.0.2.7")
    assert not line.search("zaki refused 192.0.2.7 and more")


@pytest.mark.parametrize(
    "script",
    [
        hardening.KERNEL_DO,
        hardening.KERNEL_UNDO,
        hardening.KERNEL_CHECK,
        hardening.CLOCK_DO,
        hardening.CLOCK_CHECK,
        hardening.UPDATES_DO,
        hardening.UPDATES_CHECK,
        hardening.BANS_DO,
        hardening.BANS_UNDO,
        hardening.BANS_CHECK,
        hardening.SSHD_UNDO,
        hardening.render_sshd_do("admin"),
        hardening.render_sshd_check("admin"),
    ],
)
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
