"""A database from before somebody came: their OpenClaw is kept, told, and given back with all that it remembers."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx

from bot.provisioner.leftovers import find_leftovers
from bot.standins.telegram.client import SimulatedMessage
from bot.store import Database
from bot.store.tables import ContainerState, Instance
from tests.e2e.conversation.served import PATIENCE, ServedZaki, until


def echoed(message: SimulatedMessage, text: str) -> bool:
    """Whether it is the echo model's answer to the text."""
    return message.from_bot and text in message.text


async def test_an_instance_that_yesterdays_database_does_not_know_is_given_back(
    zaki: ServedZaki, tmp_path: Path
) -> None:
    live, yesterday = zaki.state / "db" / "zaki.sqlite3", tmp_path / "yesterday.sqlite3"
    copy = sqlite3.connect(live)
    copy.execute("VACUUM INTO ?", (str(yesterday),))
    copy.close()

    ada = await zaki.people.new_user(first_name="Ada")
    said = await zaki.people.say(ada, "before the restore")
    await zaki.people.wait_for_reply(
        ada, after=said.id, timeout=PATIENCE, predicate=lambda m: echoed(m, "before the restore")
    )
    mine = await zaki.instance_of(ada.id)
    assert mine is not None
    zaki.stop()
    await zaki.database.close()
    for file in live.parent.glob(f"{live.name}*"):
        file.unlink()
    live.write_bytes(yesterday.read_bytes())
    zaki.database = Database(zaki.settings.effective_database_url)
    await zaki.start()

    assert await zaki.instance_of(ada.id) is None
    assert {thing.subject for thing in (await find_leftovers(zaki.settings)).leftovers} == {mine.id}
    zaki.command("doctor", "--fix", "--yes")
    zaki.command("instance", "adopt", mine.id, "--user", str(ada.id))

    async def ready() -> Instance | None:
        instance = await zaki.instance_of(ada.id)
        return instance if instance is not None and instance.ready_at is not None else None

    back = await until(ready, "the adopted instance's readiness")
    assert (back.id, back.address, back.container) == (mine.id, mine.address, ContainerState.RUNNING)
    said = await zaki.people.say(ada, "after the restore")
    await zaki.people.wait_for_reply(
        ada, after=said.id, timeout=PATIENCE, predicate=lambda m: echoed(m, "after the restore")
    )
    assert not (await find_leftovers(zaki.settings)).leftovers
    await _obeys(zaki, mine.id)


async def _obeys(zaki: ServedZaki, instance_id: str) -> None:
    """The operator's verbs, beside a service that runs."""

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(zaki.command("instance", "show", instance_id, "--json"))
        return found

    async def asleep() -> bool:
        # Refused while it still has something to do.
        code, said = zaki.run("instance", "sleep", instance_id)
        assert code in (0, 3), said
        return code == 0

    await until(asleep, "the sleep that the operator asked for")
    sleeper = shown()
    assert sleeper["state"] == "asleep"
    assert sleeper["resting_since"] is not None
    assert "The operator asked for it." in {decision["reason"] for decision in sleeper["decisions"]}
    assert sleeper["memory"]["swapped_mib"] > sleeper["memory"]["resident_mib"]
    assert zaki.run("instance", "open", instance_id)[0] == 1

    zaki.command("instance", "wake", instance_id)
    awake = shown()
    assert awake["state"] == "awake"
    zaki.command("instance", "restart", instance_id)
    anew = shown()
    assert (anew["state"], anew["ready_at"] > awake["ready_at"]) == ("awake", True)

    with zaki.popen("instance", "open", instance_id, "--token") as opened:
        assert opened.stdout is not None
        url, token = (opened.stdout.readline().strip() for _ in range(2))
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{url}/readyz")).json()["ready"] is True
            answer = await http.post(
                f"{url}/api/v1/admin/rpc",
                json={"method": "config.get", "params": {}},
                headers={"Authorization": f"Bearer {token}"},
            )
        assert answer.json()["ok"] is True
        opened.send_signal(signal.SIGINT)
        assert opened.wait(30) == 0
