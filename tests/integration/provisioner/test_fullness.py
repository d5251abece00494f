"""A disk that fills up is told to its person once at each step; the disk is a small file system of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from sqlalchemy import select

from bot.credentials import ArchiveKey, FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.egress import EgressSets
from bot.provisioner.fullness import Fullness
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import Announcement, ContainerState, Instance, User
from tests.disks import fill, small_disk

POOLED, ADAS = "u-pooled0000", "u-lovelace00"
MIB = 2**20


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Path]:
    """A folder with the mounted disks of two instances."""
    folder = tmp_path / "volumes"
    made = tmp_path / "made"
    folder.mkdir()
    made.mkdir()
    with small_disk(made, 32) as disk:
        for name in (POOLED, ADAS):
            (folder / name).mkdir()
            subprocess.run(["mount", "--bind", disk, folder / name], check=True)
        try:
            yield folder
        finally:
            for name in (POOLED, ADAS):
                subprocess.run(["umount", folder / name], check=False)


@pytest.fixture
async def fullness(database: Database, settings: Settings, host_facts: HostFacts, volumes: Path) -> Fullness:
    """What looks at the disk of Ada's instance, and at one that is nobody's."""
    nothing = cast(Containers, None)
    context = ProvisionerContext(
        settings=settings,
        database=database,
        nudge=Nudge(),
        host=host_facts,
        front_key=FrontKey(b"f" * 32),
        gateway_key=GatewayKey(b"g" * 32),
        containers=nothing,
        stacks=cast(StackManager, None),
        archive=Archive(settings.state, ArchiveKey(b"a" * 32), nothing),
        egress=EgressSets(None),
        http=cast(httpx.AsyncClient, None),
    )
    async with database.write() as session:
        user = User(telegram_id=7, created_at=now())
        session.add(user)
        await session.flush()
        for instance_id, user_id in ((ADAS, user.id), (POOLED, None)):
            session.add(
                Instance(
                    id=instance_id,
                    user_id=user_id,
                    plan="standard",
                    image="sha256:0",
                    container=ContainerState.RUNNING,
                    volumes=str(volumes),
                    created_at=now(),
                )
            )
    return Fullness(context)


async def told(database: Database) -> list[tuple[int, dict[str, object]]]:
    async with database.read() as session:
        found = await session.scalars(select(Announcement).order_by(Announcement.id))
        return [(one.telegram_id, one.detail) for one in found]


async def test_each_step_is_told_once_and_again_after_it_was_well_below(
    fullness: Fullness, database: Database, volumes: Path
) -> None:
    disk = volumes / ADAS
    await fullness.look()
    assert await told(database) == []
    much = disk / "much"
    much.write_bytes(bytes(23 * MIB))
    for _ in range(2):
        await fullness.look()
        assert await told(database) == [(7, {"percent": 80, "of": "space"})]
    filler = fill(disk)
    for _ in range(2):
        await fullness.look()
        assert (await told(database))[1:] == [(7, {"percent": 100, "of": "space"})]
    filler.unlink()
    await fullness.look()
    assert len(await told(database)) == 2
    much.unlink()
    await fullness.look()
    fill(disk)
    await fullness.look()
    assert (await told(database))[2:] == [(7, {"percent": 100, "of": "space"})]


async def test_one_that_is_not_mounted_is_nothing_to_tell(
    fullness: Fullness, database: Database, volumes: Path
) -> None:
    fill(volumes / ADAS)
    subprocess.run(["umount", volumes / ADAS], check=True)
    await fullness.look()
    assert await told(database) == []
