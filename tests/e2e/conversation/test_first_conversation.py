"""A stranger writes to the bot, and an OpenClaw of their own answers: Docker, Pulumi and OpenClaw are the real ones."""

from __future__ import annotations

import json
import os
import subprocess
from ipaddress import IPv4Address
from typing import Any

import pytest

from bot.credentials import FrontKey, load_key
from bot.provisioner.leftovers import find_leftovers
from bot.standins.telegram.client import SimulatedMessage
from bot.store.tables import Instance
from bot.timeline import Stage
from tests.e2e.conversation.served import PATIENCE, TOKEN, ServedZaki, until


def docker(*arguments: str) -> str:
    """What a docker command prints."""
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, errors="replace")
    return done.stdout


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def echoes(text: str) -> Any:
    """Whether a message is the echo model's answer to the text."""

    def look(message: SimulatedMessage) -> bool:
        return message.from_bot and text in message.text

    return look


async def awake(zaki: ServedZaki, telegram_id: int) -> Instance:
    """The person's instance once it is ready."""

    async def look() -> Instance | None:
        instance = await zaki.instance_of(telegram_id)
        return instance if instance is not None and instance.ready_at is not None else None

    return await until(look, "a ready instance")


async def test_a_stranger_gets_an_assistant_of_their_own(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    said = await zaki.people.say(ada, "hello from Ada")
    at_once = await zaki.people.wait_for_reply(ada, after=said.id, timeout=20)
    assert await zaki.instance_of(ada.id) is None or Stage.READY not in await zaki.stages(ada.id)
    assert at_once.text
    await zaki.people.wait_for_reply(ada, after=said.id, timeout=PATIENCE, predicate=echoes("hello from Ada"))
    instance = await awake(zaki, ada.id)

    stages = await zaki.stages(ada.id)
    order = [
        Stage.RECEIVED,
        Stage.ADMITTED,
        Stage.CREATING,
        Stage.DECLARED,
        Stage.STARTED,
        Stage.READY,
        Stage.DELIVERED,
    ]
    assert [stages.index(stage) for stage in order] == sorted(stages.index(stage) for stage in order)

    again = await zaki.people.say(ada, "and once more")
    await zaki.people.wait_for_reply(ada, after=again.id, timeout=PATIENCE, predicate=echoes("and once more"))

    check_isolation(zaki, inspect(instance.id))
    check_no_secret_outside(zaki, instance.id)
    listed = json.loads(zaki.command("instance", "ls", "--json"))
    assert [(row["id"], row["state"]) for row in listed] == [(instance.id, "awake")]
    check_plain_pulumi_agrees(zaki, instance.id)
    await leave(zaki, ada, instance.id)


def check_isolation(zaki: ServedZaki, container: dict[str, Any]) -> None:
    """The profile of OpenClaw's own fleet, and further."""
    host = container["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] is None
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["Init"] is True
    assert host["PidsLimit"] == 512
    assert host["Memory"] == 2 * 1024**3
    assert host["MemorySwap"] == 6 * 1024**3
    assert host["NanoCpus"] == 2_000_000_000 or host["CpuQuota"] == 2 * host["CpuPeriod"]
    assert not host["PortBindings"]
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert container["Config"]["User"] == "1000:1000"
    assert [(mount["Type"], mount["Destination"]) for mount in container["Mounts"]] == [("volume", "/home/node")]
    networks = container["NetworkSettings"]["Networks"]
    assert list(networks) == [zaki.host.network]
    assert IPv4Address(networks[zaki.host.network]["IPAMConfig"]["IPv4Address"]) in zaki.host.subnet


def check_no_secret_outside(zaki: ServedZaki, instance_id: str) -> None:
    """The real token is with the front alone; virtual credentials are in the volume alone."""
    own = FrontKey(load_key(zaki.state / "keys" / "front.key")).derive(instance_id, 1)
    outside = docker("inspect", instance_id) + zaki.log.read_text()
    for path in zaki.state.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            outside += path.read_bytes().decode("latin-1")
    inside = docker(
        "exec", instance_id, "sh", "-c", "env; cat -- /proc/1/environ; grep -r . /home/node/.openclaw || true"
    )
    for secret in (TOKEN, TOKEN.split(":")[1]):
        assert secret not in outside
        assert secret not in inside
    for secret in (own.bot_token, own.model_key, own.webhook_secret):
        assert secret not in outside
    assert own.bot_token in inside


def check_plain_pulumi_agrees(zaki: ServedZaki, instance_id: str) -> None:
    """What `zaki instance show --env` prints makes a plain `pulumi preview` say that nothing would change."""
    printed = zaki.command("instance", "show", instance_id, "--env")
    preview = next(line.removeprefix("# ") for line in printed.splitlines() if line.startswith("# pulumi "))
    plain = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done = subprocess.run(
        ["bash", "-euc", f"{printed}\n{preview} --expect-no-changes --non-interactive"],
        env=plain,
        cwd=zaki.state,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unchanged" in done.stdout


async def leave(zaki: ServedZaki, ada: Any, instance_id: str) -> None:
    """/delete asks, and then nothing is left."""
    asked = await zaki.people.say(ada, "/delete")
    question = await zaki.people.wait_for_reply(
        ada, after=asked.id, timeout=30, predicate=lambda message: message.from_bot and bool(message.buttons)
    )
    confirm = next(button for row in question.buttons for button in row if "delete" in button.text.lower())
    await zaki.people.press(ada, question, confirm.text)

    async def gone() -> bool:
        return await zaki.instance_of(ada.id) is None

    await until(gone, "the instance's end")
    assert instance_id not in docker("ps", "--all", "--format", "{{.Names}}")
    assert instance_id not in docker("volume", "ls", "--format", "{{.Name}}")
    assert not (zaki.state / "stacks" / instance_id).exists()


async def test_two_people_cannot_reach_each_other(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    bob = await zaki.people.new_user(first_name="Bob")
    await zaki.people.say(ada, "I am Ada")
    await zaki.people.say(bob, "I am Bob")
    first, second = await awake(zaki, ada.id), await awake(zaki, bob.id)
    assert first.address != second.address
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("I am Ada"))
    await zaki.people.wait_for_reply(bob, timeout=PATIENCE, predicate=echoes("I am Bob"))
    assert not any("I am Bob" in message.text for message in await zaki.people.messages(ada))

    key = FrontKey(load_key(zaki.state / "keys" / "front.key"))
    mine, theirs = key.derive(first.id, 1), key.derive(second.id, 1)
    front = f"http://{zaki.settings.effective_instances_listen(zaki.host.gateway)}"
    assert ask(first.id, f"{front}/telegram/bot{mine.bot_token}/getMe")[0] == 200
    assert ask(first.id, f"{front}/telegram/bot{theirs.bot_token}/getMe")[0] == 401
    assert ask(first.id, f"{front}/telegram/bot{mine.bot_token}/sendMessage?chat_id={bob.id}&text=psst")[0] == 403
    assert ask(first.id, f"{front}/llm/v1/models", theirs.model_key)[0] == 401
    assert ask(first.id, f"{front}/llm/v1/models", mine.model_key)[0] == 200
    for port in (18789, 8787):
        assert ask(first.id, f"http://{second.address}:{port}/healthz")[0] == 0
    assert not any("psst" in message.text for message in await zaki.people.messages(bob))


def ask(instance_id: str, url: str, key: str = "") -> tuple[int, str]:
    """What a request from inside an instance is answered; status 0 where there is no answer."""
    script = """
      const [url, key] = process.argv.slice(1);
      fetch(url, { headers: key ? { authorization: `Bearer ${key}` } : {}, signal: AbortSignal.timeout(3000) })
        .then(async (r) => console.log(JSON.stringify([r.status, await r.text()])))
        .catch((e) => console.log(JSON.stringify([0, String(e)])));
    """
    status, body = json.loads(docker("exec", instance_id, "node", "-e", script, url, key))
    return status, body


@pytest.mark.parametrize("stage", [Stage.ADMITTED, Stage.CREATING, Stage.DECLARED, Stage.STARTED, Stage.DELIVERED])
async def test_a_kill_loses_nothing(zaki: ServedZaki, stage: Stage) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "remember the milk")
    await zaki.reached(ada.id, stage)
    zaki.kill()
    await zaki.people.say(ada, "and the bread")
    await zaki.start()
    for text in ("remember the milk", "and the bread"):
        await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes(text))
    check_answered_once(await zaki.people.messages(ada), ["remember the milk", "and the bread"])
    instance = await awake(zaki, ada.id)
    ours = docker("ps", "--all", "--filter", f"network={zaki.host.network}", "--format", "{{.Names}}").split()
    assert ours == [instance.id]
    assert [path.name for path in (zaki.state / "stacks").iterdir()] == [instance.id]
    found = await find_leftovers(zaki.settings)
    assert (found.leftovers, found.unseen) == ((), ())


@pytest.mark.parametrize("role", ["front", "provisioner"])
@pytest.mark.parametrize("stage", [Stage.CREATING, Stage.STARTED])
async def test_a_kill_of_one_of_two_processes_loses_nothing(zaki_in_two: ServedZaki, role: str, stage: Stage) -> None:
    """By webhook and on PostgreSQL; the other tests poll and have SQLite."""
    ada = await zaki_in_two.people.new_user(first_name="Ada")
    await zaki_in_two.people.say(ada, "hello, both of you")
    await zaki_in_two.reached(ada.id, stage)
    zaki_in_two.kill(role)
    await zaki_in_two.people.say(ada, "still there?")
    await zaki_in_two.start()
    for text in ("hello, both of you", "still there?"):
        await zaki_in_two.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes(text))
    check_answered_once(await zaki_in_two.people.messages(ada), ["hello, both of you", "still there?"])


async def test_ten_messages_while_it_starts_get_ten_answers_in_order(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    said = [f"This is number {number}." for number in range(10)]
    for text in said:
        await zaki.people.say(ada, text)
    for text in said:
        await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes(text))
    check_answered_once(await zaki.people.messages(ada), said)
    ours = docker("ps", "--all", "--filter", f"network={zaki.host.network}", "--format", "{{.Names}}").split()
    assert len(ours) == 1


def check_answered_once(messages: list[SimulatedMessage], said: list[str]) -> None:
    """Each text has one answer, and the answers come in the order of the texts."""
    answers = [message.text for message in messages if message.from_bot and message.text.startswith("You wrote:")]
    assert answers == [f"You wrote: {text}" for text in said]


async def test_messages_wait_while_docker_is_away(zaki: ServedZaki) -> None:
    zaki.stop()
    await zaki.start(DOCKER_HOST=f"unix://{zaki.state}/nobody-listens-here.sock")
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "are you there?")
    await zaki.reached(ada.id, Stage.ADMITTED)
    assert Stage.CREATING not in await zaki.stages(ada.id)
    zaki.stop()
    await zaki.start()
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("are you there?"))


async def test_a_gateway_that_ends_while_it_starts_is_started_again(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "first")
    await zaki.reached(ada.id, Stage.STARTED)
    instance = await zaki.instance_of(ada.id)
    assert instance is not None
    docker("kill", instance.id)
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("first"))
    check_answered_once(await zaki.people.messages(ada), ["first"])


async def test_a_gateway_that_ends_comes_back(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "first")
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("first"))
    instance = await awake(zaki, ada.id)
    docker("kill", instance.id)

    async def seen() -> bool:
        now = await zaki.instance_of(ada.id)
        return now is not None and now.repairs == 1

    await until(seen, "the end's discovery")
    await zaki.people.say(ada, "second")
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("second"))


async def test_onboarding_reaches_openclaw(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada", language_code="de")
    started = await zaki.people.say(ada, "/start")
    instance = await awake(zaki, ada.id)
    question = await zaki.people.wait_for_reply(
        ada, after=started.id, timeout=30, predicate=lambda message: message.from_bot and bool(message.buttons)
    )
    name = next(button for row in question.buttons for button in row if "Ada" in button.text)
    await zaki.people.press(ada, question, name.text)

    async def written() -> bool:
        path = "/home/node/.openclaw/workspace/USER.md"
        return 'the name "Ada"' in docker("exec", instance.id, "cat", path)

    await until(written, "the name in USER.md")


async def test_a_refused_configuration_is_repaired(zaki: ServedZaki) -> None:
    ada = await zaki.people.new_user(first_name="Ada")
    await zaki.people.say(ada, "first")
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("first"))
    instance = await awake(zaki, ada.id)
    path = "/home/node/.openclaw/openclaw.json"
    docker(
        "exec",
        instance.id,
        "node",
        "-e",
        f"""
      const fs = require("fs");
      const config = JSON.parse(fs.readFileSync({path!r}, "utf8"));
      config.noSuchKey = true;
      fs.writeFileSync({path!r}, JSON.stringify(config));
    """,
    )
    docker("kill", instance.id)
    await zaki.people.say(ada, "second")
    await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=echoes("second"))
