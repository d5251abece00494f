"""A bare Debian becomes a host that serves, by `zaki host up`, and stays one through updates, mischief and a reset."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.standins.telegram import SimulatorClient, SimulatorConfig, create_app, running
from bot.standins.telegram.client import SimulatedPerson
from tests.vm.machine import Disk, Vm
from tests.vm.operator import STACK, TOKEN, Operator, answered, disk_for_serving, writing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def disk(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return disk_for_serving(disk, tmp_path_factory.mktemp("disk"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def telegram() -> AsyncIterator[str]:
    """A simulated Telegram on this machine."""
    async with running(create_app(SimulatorConfig(token=TOKEN))) as telegram:
        yield telegram


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(telegram: str) -> AsyncIterator[SimulatorClient]:
    async with SimulatorClient(telegram) as people:
        yield people


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(people: SimulatorClient) -> SimulatedPerson:
    return await people.new_user(first_name="Ada")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(vm: Vm, telegram: str, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return await Operator.begin(vm, tmp_path_factory.mktemp("operator"), telegram)


async def test_bare_machine_serves_whoever_writes(
    operator: Operator, vm: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    assert (await operator.first_up())["changed"]
    await answered(people, person, "hello")

    [instance] = vm.read("docker ps --filter label=zaki.instance --format '{{.Names}}'").splitlines()
    assert vm.read(f"findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/zaki/volumes/{instance}").startswith("ext4")
    address = vm.read(
        f"docker inspect --format '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {instance}"
    )
    assert address in vm.read("nft list set inet zaki egress_open")
    token = vm.run(f"grep -rqF {TOKEN} /etc /opt/zaki /var/lib/zaki /run/zaki-steps", check=False)
    assert token.returncode == 1
    assert TOKEN not in (await operator.pulumi("stack", "export"))


async def test_second_up_changes_nothing(operator: Operator) -> None:
    assert (await operator.up())["changed"] is False
    shown = await operator.pulumi("preview", "--expect-no-changes")
    assert "unchanged" in shown


async def test_nothing_is_lost_while_another_version_comes(
    operator: Operator, vm: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    operator.new_version("0.1.1")
    async with writing(people, person) as texts:
        made = await operator.up()
    assert made["release"].startswith("0.1.1-")
    assert vm.read("zaki --version") == "zaki 0.1.1"
    said = Counter(message.text for message in await people.messages(person) if message.from_bot)
    assert {text: said[f"You wrote: {text}"] for text in texts} == dict.fromkeys(texts, 1)


async def test_what_was_changed_by_hand_is_shown_and_mended(operator: Operator, vm: Vm) -> None:
    vm.run(
        "ufw delete allow 443/tcp >/dev/null && "
        "systemctl --quiet disable zaki-provisioner && echo ZAKI_MODEL=other >>/etc/zaki/zaki.env"
    )
    code, shown, errors = await operator.zaki("host", "preview", "--stack", STACK)
    assert code == 0, errors
    for what in (
        "UFW lacks the rule: allow 443/tcp",
        "zaki-provisioner.service is not started at boot",
        "zaki.env was edited",
    ):
        assert what in shown
    await operator.up()
    assert (await operator.up())["changed"] is False
    assert "443/tcp" in vm.read("ufw status")
    assert "zaki0" in vm.read("nft list table inet zaki")
    assert vm.read("systemctl is-enabled zaki-provisioner") == "enabled"


async def test_up_goes_on_after_a_reset_in_its_middle(
    operator: Operator, vm: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    await operator.pulumi("config", "set", "zaki:ready_within_s", "601")
    cut = asyncio.create_task(operator.zaki("host", "up", "--stack", STACK))
    await asyncio.to_thread(vm.run, "until systemctl is-active --quiet 'zaki-step-*'; do sleep 0.2; done", timeout=600)
    vm.reset()
    code, _, said = await cut
    assert code == 1
    assert f"run `zaki host up --stack {STACK}` again" in said
    await asyncio.to_thread(vm.wait)
    # Without anybody's doing.
    await answered(people, person, "are you there?")
    await operator.up()
    assert (await operator.up())["changed"] is False


async def test_down_keeps_what_people_have_and_nothing_else(
    operator: Operator, vm: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    code, _, said = await operator.zaki("host", "down", "--stack", STACK, "--yes")
    assert code == 0, said
    left = vm.read(
        "cd / && ls -d opt/zaki etc/zaki usr/local/bin/zaki etc/ssh/sshd_config.d/10-zaki.conf 2>/dev/null || true"
    )
    assert left == ""
    assert vm.run("command -v dockerd ufw unbound fail2ban-client", check=False).stdout == ""
    assert vm.run("systemctl list-unit-files 'zaki-*' --no-legend", check=False).stdout == ""
    assert "db/zaki.sqlite3" in vm.read("cd /var/lib/zaki && ls db/* volumes/*")
