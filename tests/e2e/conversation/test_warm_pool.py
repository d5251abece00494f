"""Somebody new and an OpenClaw of the warm pool: made ahead, warm and asleep, it becomes theirs and theirs alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bot.nobody import NOBODY
from bot.store.tables import ContainerState, Instance, OutboxMessage, Usage
from bot.timeline import Stage
from tests.e2e.conftest import Docker, DockerHost
from tests.e2e.conversation.conftest import serving
from tests.e2e.conversation.served import PATIENCE, ServedZaki, until


async def test_somebody_new_gets_the_one_that_waits(
    docker_host_stack: DockerHost, docker: Docker, tmp_path: Path
) -> None:
    async with serving(docker_host_stack, tmp_path, pool=1) as zaki:
        member = await until(lambda: waiting(zaki), "a member of the pool", 2 * PATIENCE)
        assert owners(docker, member.id) == ([str(NOBODY)], [f"telegram:{NOBODY}"])
        assert await rows(zaki, OutboxMessage) == []
        assert await rows(zaki, Usage) == []
        started = docker("inspect", "--format", "{{.State.StartedAt}}", member.id)

        ada = await zaki.people.new_user(first_name="Ada")
        await zaki.people.say(ada, "what did I say")
        # The model is shown the whole session, and there is nothing in it before this.
        first = answers("These are your first words to me.")
        await zaki.people.wait_for_reply(ada, timeout=PATIENCE, predicate=first)
        instance = await zaki.instance_of(ada.id)
        assert instance is not None
        assert instance.id == member.id
        stages = await zaki.stages(ada.id)
        assert Stage.CLAIMED in stages
        assert Stage.CREATING not in stages
        # It was not started anew for its person, and knows nobody else.
        assert docker("inspect", "--format", "{{.State.StartedAt}}", member.id) == started
        assert owners(docker, member.id) == ([str(ada.id)], [f"telegram:{ada.id}"])

        check_workers_are_kept(docker, member.id)


async def waiting(zaki: ServedZaki) -> Instance | None:
    """A member that somebody new would get."""
    query = select(Instance).where(
        Instance.user_id.is_(None), Instance.warmed_at.is_not(None), Instance.container == ContainerState.PAUSED
    )
    async with zaki.database.read() as session:
        return (await session.scalars(query)).one_or_none()


async def rows(zaki: ServedZaki, table: Any) -> list[Any]:
    async with zaki.database.read() as session:
        return list(await session.scalars(select(table)))


def owners(docker: Docker, instance_id: str) -> tuple[list[str], list[str]]:
    """Who may write to it, and who may command it, by the file that it has; works on one that is frozen, too."""
    copied = subprocess.run(
        ["docker", "cp", f"{instance_id}:/home/node/.openclaw/openclaw.json", "-"], capture_output=True, check=True
    )
    text = copied.stdout.decode("latin-1")
    config = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return config["channels"]["telegram"]["allowFrom"], config["commands"]["ownerAllowFrom"]


def answers(text: str) -> Any:
    return lambda message: message.from_bot and message.text.startswith(text)


def check_workers_are_kept(docker: Docker, instance_id: str) -> None:
    """A worker that falls idle stays, a task that takes too long ends; and OpenClaw still calls its places so."""
    kept, ends = str(2**31 - 1), "60000"
    for name, method, expected in (
        ("worker-task-pool-x.mjs", "idle", kept),
        ("worker-task-pool-x.mjs", "dispatch", ends),
        ("another.mjs", "idle", ends),
    ):
        script = (
            f"class Pool {{ {method}() {{ return (() => setTimeout(() => {{}}, 60000))(); }} }}"
            " const timer = new Pool().{method}(); timer.unref(); console.log(timer._idleTimeout);"
        ).replace("{method}", method)
        ran = docker("exec", instance_id, "sh", "-c", f"cd $(mktemp -d) && echo '{script}' > {name} && node {name}")
        assert ran == expected
    own = r"idle(slot) {.*this\.setTimeoutFn(() => void this\.retirement\.retire(slot)"
    assert docker(
        "exec", instance_id, "sh", "-c", f"cat /app/dist/worker-task-pool-*.mjs | tr -d '\n' | grep -c '{own}'"
    )
