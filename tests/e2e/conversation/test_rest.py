"""An instance that rests, ever deeper, and comes back with the next message and with all that it had."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import update

from bot.provisioner.leftovers import find_leftovers
from bot.standins.telegram.client import SimulatedMessage, SimulatedPerson
from bot.store import now
from bot.store.tables import ContainerState, Instance
from bot.timeline import Stage
from bot.users.plans import PLANS
from tests.e2e.conversation.served import PATIENCE, ServedZaki, until
from tests.e2e.conversation.test_first_conversation import docker, echoes

DAY = 24 * 3600.0
PLAN = PLANS["standard"]
NOTE = "/home/node/.openclaw/workspace/note.txt"


async def test_an_instance_rests_deeper_and_deeper_and_comes_back_with_all_that_it_had(zaki: ServedZaki) -> None:
    grace = await zaki.people.new_user(first_name="Grace")
    await talk(zaki, grace, "hello from Grace")
    instance = await zaki.instance_of(grace.id)
    assert instance is not None
    docker("exec", instance.id, "sh", "-c", f"echo 'the answer is 42' > {NOTE}")

    await fall_asleep(zaki, instance.id)
    assert state(zaki, instance.id) == "asleep"
    assert memory_mb(instance.id) < 100
    await talk(zaki, grace, "good morning")
    assert await seen(zaki, grace) == ContainerState.RUNNING

    await fall_asleep(zaki, instance.id)
    await told_and_stopped(zaki, grace, instance.id)
    await talk(zaki, grace, "after some days")

    await fall_asleep(zaki, instance.id)
    await archived(zaki, grace, instance.id)
    await talk(zaki, grace, "after some weeks")
    assert docker("exec", instance.id, "cat", NOTE) == "the answer is 42\n"

    reasons = [decision["reason"] for decision in shown(zaki, instance.id)["decisions"]]
    assert "A message waits for it." in reasons
    await no_leftovers(zaki)


async def test_a_service_killed_while_an_instance_falls_asleep_brings_it_in_order(zaki: ServedZaki) -> None:
    edsger = await zaki.people.new_user(first_name="Edsger")
    await talk(zaki, edsger, "hello from Edsger")
    instance = await zaki.instance_of(edsger.id)
    assert instance is not None
    zaki.kill()
    # As a crash leaves it between the fence and the freeze, and with a row that knows of neither.
    async with zaki.database.write() as session:
        await session.execute(update(Instance).where(Instance.id == instance.id).values(fenced_at=now()))
    docker("pause", instance.id)
    await zaki.start()
    await talk(zaki, edsger, "are you there?")
    found = await zaki.instance_of(edsger.id)
    assert found is not None
    assert (found.fenced_at, found.container) == (None, ContainerState.RUNNING)
    await no_leftovers(zaki)


async def talk(zaki: ServedZaki, person: SimulatedPerson, text: str) -> None:
    """The person says something and gets their assistant's answer."""
    said = await zaki.people.say(person, text)
    await zaki.people.wait_for_reply(person, after=said.id, timeout=PATIENCE, predicate=echoes(text))


async def fall_asleep(zaki: ServedZaki, instance_id: str) -> None:
    """The operator's request is refused while a turn is not quite over, and done afterwards."""

    async def asked() -> bool:
        return zaki.run("instance", "sleep", instance_id)[0] == 0

    await until(asked, "the sleep")


async def told_and_stopped(zaki: ServedZaki, person: SimulatedPerson, instance_id: str) -> None:
    """Days asleep: the person is told, with a button, and a while later it is stopped."""
    await long_ago(zaki, instance_id, PLAN.stop_after)
    notice = await zaki.people.wait_for_reply(person, timeout=PATIENCE, predicate=has_button)
    assert notice.from_bot
    await long_ago(zaki, instance_id, PLAN.stop_after, rest_told_at=now() - DAY)
    await zaki.reached(person.id, Stage.STOPPED)
    await until_state(zaki, instance_id, "stopped")


async def archived(zaki: ServedZaki, person: SimulatedPerson, instance_id: str) -> None:
    """Weeks at rest: the files are in the archive, and container, volume and stack are gone."""
    await long_ago(zaki, instance_id, PLAN.archive_after, rest_told_at=now() - DAY)
    await until_state(zaki, instance_id, "stopped")
    await long_ago(zaki, instance_id, PLAN.archive_after, rest_told_at=now() - DAY)
    await until_state(zaki, instance_id, "archived")
    assert instance_id not in docker("ps", "-a", "--format", "{{.Names}}").split()
    assert instance_id not in docker("volume", "ls", "-q").split()
    assert not (zaki.state / "stacks" / instance_id).exists()
    assert any((zaki.state / "archives" / instance_id).iterdir())


async def until_state(zaki: ServedZaki, instance_id: str, wanted: str) -> None:
    async def reached() -> bool:
        return state(zaki, instance_id) == wanted

    await until(reached, f"the state {wanted}")


async def long_ago(zaki: ServedZaki, instance_id: str, seconds: float, **columns: Any) -> None:
    """As if it had rested for so long."""
    values = {"resting_since": now() - seconds, "next_look_at": now(), **columns}
    async with zaki.database.write() as session:
        await session.execute(update(Instance).where(Instance.id == instance_id).values(**values))


async def seen(zaki: ServedZaki, person: SimulatedPerson) -> ContainerState | None:
    instance = await zaki.instance_of(person.id)
    return instance.container if instance is not None else None


def has_button(message: SimulatedMessage) -> bool:
    return message.from_bot and bool(message.buttons)


def shown(zaki: ServedZaki, instance_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zaki.command("instance", "show", instance_id, "--json"))
    return found


def state(zaki: ServedZaki, instance_id: str) -> str:
    return str(shown(zaki, instance_id)["state"])


def memory_mb(instance_id: str) -> float:
    """What Docker says that the container has in memory, without what the kernel can take back at any time."""
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", instance_id).split("/")[0].strip()
    number = float(used.rstrip("GMKiB"))
    return number * {"G": 1024.0, "M": 1.0, "K": 1 / 1024}[used.rstrip("iB")[-1]]


async def no_leftovers(zaki: ServedZaki) -> None:
    found = await find_leftovers(zaki.settings)
    assert found.leftovers == ()
