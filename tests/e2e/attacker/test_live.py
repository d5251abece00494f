"""`zaki doctor --attack` on a host that was declared without a firewall: what lands is seen, and nothing is left."""

from __future__ import annotations

import json
import re
import subprocess

from bot.attack.attempts import ATTEMPTS
from bot.attack.judges import judge
from bot.attack.live import live_scene
from tests.e2e.conftest import Docker, DockerHost

_BY_NAME = {attempt.name: attempt for attempt in ATTEMPTS}


async def test_a_host_without_a_firewall_is_told_so_and_left_as_it_was(
    docker: Docker, docker_host_stack: DockerHost
) -> None:
    facts = docker_host_stack.facts
    async with live_scene(facts, 8081) as scene:
        found = {
            name: await judge(scene, _BY_NAME[name])
            for name in ("neighbour", "host-ports", "metadata", "private", "another-token", "mounts", "disk")
        }
        ids = (scene.attacker.id, scene.neighbour.id)
        # Those of other tests are called otherwise.
        made = {name for name in namespaces() if re.fullmatch("zka[0-9a-f]{6}", name)}
        assert made
    outcomes = {name: (verdict.tried, verdict.succeeded) for name, verdict in found.items()}
    # The bridge itself keeps instances apart; the host and what it can reach are open without a firewall.
    assert outcomes == {
        "neighbour": (True, False),
        "host-ports": (True, True),
        "metadata": (True, True),
        "private": (True, True),
        "another-token": (False, False),
        "mounts": (True, False),
        "disk": (True, False),
    }, {name: verdict.words for name, verdict in found.items()}
    for name in ids:
        assert docker.inspect("container", name) is None
        assert docker.inspect("volume", name) is None
    assert not made & set(namespaces())
    listed = json.loads(docker("network", "inspect", facts.network))[0]
    assert listed["Containers"] == {}


def namespaces() -> list[str]:
    """The machine's named network namespaces."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]
