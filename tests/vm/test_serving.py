"""The host serves whoever writes, through updates, mischief and a reset."""

from __future__ import annotations

import asyncio
from collections import Counter

from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatedPerson
from tests.vm.machine import Vm
from tests.vm.operator import STACK, TOKEN, Operator, answered, writing


async def test_whoever_writes_is_answered(
    operator: Operator, host: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    await answered(people, person, "hello")

    [instance] = host.read("docker ps --filter label=zaki.instance --format '{{.Names}}'").splitlines()
    assert host.read(f"findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/zaki/volumes/{instance}").startswith(
        "ext4"
    )
    address = host.read(
        f"docker inspect --format '{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}' {instance}"
    )
    assert address in host.read("nft list set inet zaki egress_open")
    token = host.run(f"grep -rqF {TOKEN} /etc /opt/zaki /var/lib/zaki /run/zaki-steps", check=False)
    assert token.returncode == 1
    assert TOKEN not in (await operator.pulumi("stack", "export"))


async def test_front_is_as_shut_in_as_it_was_declared(host: Vm) -> None:
    exposure = host.read("systemd-analyze security --no-pager zaki-front.service | tail -n 1")
    assert float(exposure.split(":")[1].split()[0]) <= 3.0


async def test_plain_pulumi_sees_what_zaki_did(operator: Operator, host: Vm) -> None:
    shown = await operator.pulumi("preview", "--expect-no-changes")
    assert "unchanged" in shown


async def test_nothing_is_lost_while_another_version_comes(
    operator: Operator, host: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    operator.new_version("0.1.1")
    async with writing(people, person) as texts:
        made = await operator.up()
    assert made["release"].startswith("0.1.1-")
    assert host.read("zaki --version") == "zaki 0.1.1"
    said = Counter(message.text for message in await people.messages(person) if message.from_bot)
    assert {text: said[f"You wrote: {text}"] for text in texts} == dict.fromkeys(texts, 1)


async def test_version_that_does_not_start_makes_room_for_the_one_before(
    operator: Operator, host: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    with operator.broken("0.1.2"):
        code, _, said = await operator.zaki("host", "up", "--stack", STACK)
    assert code == 1
    assert "0.1.1" in said
    assert host.read("zaki --version") == "zaki 0.1.1"
    await answered(people, person, "still there?")


async def test_settings_that_were_edited_by_hand_are_shown_and_mended(operator: Operator, host: Vm) -> None:
    host.run("systemctl --quiet disable zaki-provisioner && echo ZAKI_MODEL=other >>/etc/zaki/zaki.env")
    shown = await operator.preview()
    for what in ("zaki-provisioner.service is not started at boot", "zaki.env was edited"):
        assert what in shown
    await operator.up()
    assert "other" not in host.read("cat /etc/zaki/zaki.env")
    assert host.read("systemctl is-enabled zaki-provisioner") == "enabled"


async def test_up_goes_on_after_a_reset_in_its_middle(
    operator: Operator, host: Vm, people: SimulatorClient, person: SimulatedPerson
) -> None:
    await operator.pulumi("config", "set", "zaki:ready_within_s", "601")
    cut = asyncio.create_task(operator.zaki("host", "up", "--stack", STACK))
    await asyncio.to_thread(
        host.run, "until systemctl is-active --quiet 'zaki-step-*'; do sleep 0.2; done", timeout=600
    )
    host.reset()
    code, _, said = await cut
    assert code == 1
    assert f"run `zaki host up --stack {STACK}` again" in said
    await asyncio.to_thread(host.wait)
    # Without anybody's doing.
    await answered(people, person, "are you there?")
    await operator.up()
    assert (await operator.up())["changed"] is False
