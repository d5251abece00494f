"""Each attempt is made from inside of a real instance, and must fail; with its control switched off it must succeed."""

from __future__ import annotations

import pytest

from bot.attack.attempts import ATTEMPTS, Attempt
from bot.attack.judges import Verdict, judge
from infra.spec import InstanceSpec
from tests.e2e.attacker.conftest import CarelessContainers, Stage, without
from tests.e2e.conftest import Docker

pytestmark = pytest.mark.asyncio(loop_scope="module")
_BY_NAME = {attempt.name: attempt for attempt in ATTEMPTS}


@pytest.mark.parametrize("attempt", ATTEMPTS[:-1], ids=lambda attempt: attempt.name)
async def test_attempt(stage: Stage, verdicts: dict[str, Verdict], attempt: Attempt) -> None:
    found = await judge(stage.scene, attempt)
    verdicts[attempt.name] = found
    assert (found.tried, found.succeeded, found.words) == (True, False, "")


async def fails_without(stage: Stage, name: str, **changes: object) -> None:
    """Check that the attempt succeeds in the scene as it is changed: else its judge would see nothing."""
    found = await judge(without(stage.scene, **changes), _BY_NAME[name])
    assert (found.tried, found.succeeded) == (True, True), found.words


@pytest.mark.parametrize(
    "name",
    ["neighbour", "host-ports", "metadata", "private", "ipv6", "mail", "published", "rebinding", "forged-source"],
)
async def test_without_the_firewall_it_lands(stage: Stage, unguarded: None, name: str) -> None:
    await fails_without(stage, name, inside=stage.as_root)


async def test_who_has_packet_sockets_fools_the_neighbour(stage: Stage, unguarded: None) -> None:
    await fails_without(stage, "forged-arp", inside=stage.as_root)


@pytest.mark.parametrize("name", ["another-token", "another-key", "forged-headers", "another-skill", "another-consent"])
async def test_a_front_that_takes_it_for_the_neighbour_is_seen(stage: Stage, name: str) -> None:
    async with stage.front.taking_it_for_the_neighbour():
        await fails_without(stage, name)


async def test_a_front_that_lets_it_write_to_another_chat_is_seen(stage: Stage) -> None:
    async with stage.front.owned_by_the_neighbour():
        await fails_without(stage, "another-chat")


@pytest.mark.parametrize(("name", "limit"), [("memory", "--memory=1500m"), ("fork-bomb", "--pids-limit=800")])
async def test_more_than_its_limit_is_seen(stage: Stage, docker: Docker, name: str, limit: str) -> None:
    spec = stage.scene.attacker
    docker("update", limit, spec.id)
    try:
        await fails_without(stage, name)
    finally:
        docker("update", f"--pids-limit={spec.pids}", f"--memory={spec.memory_mib}m", spec.id)


@pytest.mark.parametrize("name", ["mounts", "setuid", "sockets"])
async def test_a_loose_container_is_escaped_from(stage: Stage, loose: InstanceSpec, name: str) -> None:
    await fails_without(stage, name, attacker=loose)


async def test_a_host_that_follows_links_is_seen(stage: Stage) -> None:
    await fails_without(stage, "links", containers=CarelessContainers(stage.scene))


async def test_an_archive_of_it_breaks_out_of_nothing(stage: Stage, verdicts: dict[str, Verdict]) -> None:
    # The last one: the attacker is stopped for it, and made anew.
    await test_attempt(stage, verdicts, _BY_NAME["hostile-archive"])
