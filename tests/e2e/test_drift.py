"""Containers that a hand has changed, with the real Docker and Pulumi: named, and brought back with all their files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.provisioner.containers import ContainerError, Containers
from bot.provisioner.drift import drift
from bot.provisioner.mending import mend
from bot.provisioner.stacks import StackManager
from bot.store.tables import ContainerState
from infra.spec import InstanceSpec
from tests.e2e.conftest import Docker, Specify

#: What a hand does, and whether another container must take the place of the changed one.
BY_HAND = [
    pytest.param(["update --memory 4096m --memory-swap 8192m ID"], False, id="memory"),
    pytest.param(["update --cpus 1 ID"], True, id="processors"),
    pytest.param(["update --pids-limit 64 ID"], False, id="processes"),
    pytest.param(["update --restart always ID"], False, id="restart"),
    pytest.param(["network disconnect NETWORK ID", "network connect --ip OTHER NETWORK ID"], True, id="address"),
    pytest.param(["network connect bridge ID"], True, id="second network"),
]


@pytest.fixture
async def containers() -> AsyncIterator[Containers]:
    async with Containers.connect() as containers:
        yield containers


async def up(stacks: StackManager, containers: Containers, spec: InstanceSpec) -> None:
    """Bring it up and start it, as the provisioner does."""
    await stacks.up(spec)
    await containers.start(spec.id, spec.pids)


async def changed(containers: Containers, spec: InstanceSpec) -> str | None:
    observed = await containers.observe(spec.id)
    assert observed is not None
    return drift(observed, spec)


@pytest.mark.parametrize(("by_hand", "anew"), BY_HAND)
async def test_what_a_hand_changed_is_named_and_mended(
    stacks: StackManager,
    containers: Containers,
    specify: Specify,
    docker: Docker,
    tmp_path: Path,
    by_hand: list[str],
    anew: bool,
) -> None:
    spec = specify()
    await up(stacks, containers, spec)
    put(docker, spec, tmp_path)
    assert await changed(containers, spec) is None
    before = docker.inspect("container", spec.id)
    for words in by_hand:
        other = str(spec.address + 1)
        docker(*words.replace("ID", spec.id).replace("NETWORK", spec.network).replace("OTHER", other).split())
    assert await changed(containers, spec) is not None
    await mend(stacks, containers, spec)
    assert await changed(containers, spec) is None
    after = docker.inspect("container", spec.id)
    assert before is not None
    assert after is not None
    assert (after["Id"] != before["Id"]) is anew
    assert after["State"]["Status"] == ("created" if anew else "running")
    assert got(docker, spec, tmp_path) == "mine"
    assert not (await stacks.up(spec)).changed


async def test_a_renamed_container_comes_back_under_its_name(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker, tmp_path: Path
) -> None:
    spec = specify()
    await up(stacks, containers, spec)
    put(docker, spec, tmp_path)
    docker("rename", spec.id, f"{spec.id}-mine")
    assert await containers.observe(spec.id) is None
    await mend(stacks, containers, spec)
    assert await changed(containers, spec) is None
    # Two would write into one volume.
    assert docker.inspect("container", f"{spec.id}-mine") is None
    assert got(docker, spec, tmp_path) == "mine"


async def test_a_container_that_a_hand_made_in_its_place_gives_way(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker, tmp_path: Path
) -> None:
    spec = specify()
    await up(stacks, containers, spec)
    put(docker, spec, tmp_path)
    docker("rm", "-f", spec.id)
    mount, label = f"{spec.id}:/home/node", f"zaki.instance={spec.id}"
    docker("run", "-d", "--name", spec.id, "--privileged", "-v", mount, "--label", label, spec.image)
    assert await changed(containers, spec) is not None
    await mend(stacks, containers, spec)
    assert await changed(containers, spec) is None
    assert got(docker, spec, tmp_path) == "mine"


async def test_a_strangers_container_in_its_place_is_left_alone(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker
) -> None:
    spec = specify()
    await stacks.up(spec)
    docker("rm", spec.id)
    stranger = docker("create", "--name", spec.id, spec.image)
    with pytest.raises(ContainerError, match="is not Zaki's"):
        await mend(stacks, containers, spec)
    found = docker.inspect("container", spec.id)
    assert found is not None
    assert found["Id"] == stranger


async def test_a_volume_that_was_removed_is_made_anew_and_known_to_be_empty(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker
) -> None:
    spec = specify()
    await stacks.up(spec)
    assert await containers.has_volume(spec.id)
    docker("rm", "-f", spec.id)
    docker("volume", "rm", spec.id)
    assert not await containers.has_volume(spec.id)
    await mend(stacks, containers, spec)
    assert await changed(containers, spec) is None
    assert await containers.has_volume(spec.id)


async def test_a_sleeper_keeps_sleeping_while_its_limits_are_mended(
    stacks: StackManager, containers: Containers, specify: Specify, docker: Docker
) -> None:
    spec = specify()
    await up(stacks, containers, spec)
    docker("pause", spec.id)
    docker("update", "--memory", "4096m", "--memory-swap", "8192m", "--pids-limit", "0", spec.id)
    await mend(stacks, containers, spec)
    observed = await containers.observe(spec.id)
    assert observed is not None
    assert observed.state is ContainerState.PAUSED
    assert drift(observed, spec) is None


async def test_a_changed_program_is_drift_too(
    stacks: StackManager, containers: Containers, specify: Specify, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specify()
    await stacks.up(spec)
    # A newer Zaki declares more than the one that made this container.
    newer = ("OPENCLAW_NEWER=1",)
    monkeypatch.setattr("bot.provisioner.drift.ENVIRONMENT", newer)
    monkeypatch.setattr("infra.instance.ENVIRONMENT", newer)
    assert await changed(containers, spec) == "Its environment lacks OPENCLAW_NEWER."
    await mend(stacks, containers, spec)
    assert await changed(containers, spec) is None
    assert await changed(containers, replace(spec, plan="large")) == "Its label zaki.plan is standard, not large."


def put(docker: Docker, spec: InstanceSpec, folder: Path) -> None:
    """A file of somebody's into the volume."""
    (folder / "note").write_text("mine")
    docker("cp", str(folder / "note"), f"{spec.id}:/home/node/note")


def got(docker: Docker, spec: InstanceSpec, folder: Path) -> str:
    """What the file says now."""
    docker("cp", f"{spec.id}:/home/node/note", str(folder / "got"))
    return (folder / "got").read_text()
