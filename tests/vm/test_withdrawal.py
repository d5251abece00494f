"""`zaki host down`: the machine is what it was, with what people have."""

from __future__ import annotations

from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatedPerson
from tests.vm.machine import Vm
from tests.vm.operator import STACK, Operator, answered


async def test_down_keeps_what_people_have_and_nothing_else(
    operator: Operator, host: Vm, before: str, people: SimulatorClient, person: SimulatedPerson
) -> None:
    await answered(people, person, "before it ends")
    host.run("docker rm --force published")
    code, _, said = await operator.zaki("host", "down", "--stack", STACK, "--yes")
    assert code == 0, said

    assert host.read("ufw show added") == before
    assert "Default: reject (incoming)" in host.read("ufw status verbose")
    assert "zaki" not in host.read("nft list tables")
    programs = "dockerd unbound squid fail2ban-client zaki"
    assert host.run(f"command -v {programs}", check=False).stdout == ""
    assert host.run("systemctl list-unit-files 'zaki-*' --no-legend", check=False).stdout == ""
    left = host.read("find /etc /run /opt /usr/local -name '*zaki*' -not -path '/run/log/*' 2>/dev/null || true")
    assert left == ""
    assert host.read("sysctl --values fs.inotify.max_user_instances") == "128"
    assert "passwordauthentication yes" in host.read("sshd -T")
    kept = host.read("cd /var/lib/zaki && ls db/* volumes/*")
    assert "db/zaki.sqlite3" in kept
    assert "u-" in kept
