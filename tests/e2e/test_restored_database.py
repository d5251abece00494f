"""A database from yesterday: what it does not know is kept, told, given back, and removed only by its name."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import delete

from bot.cli import run
from bot.credentials import new_instance_id
from bot.provisioner.leftovers import Kind, find_leftovers
from bot.provisioner.openclaw import CONFIG_FILE
from bot.provisioner.single import provisioning
from bot.settings import Settings, load_settings
from bot.store import Database, now
from bot.store.tables import Address, ContainerState, Instance, Operation, OperationKind, User, UserStatus, Wanted, Wish
from tests.e2e.conftest import Docker, DockerHost

ADA, GRACE = 7_000_000_001, 7_000_000_002


@dataclass
class Zaki:
    """A service's state folder and database on the session's host, with instances that only sleep."""

    settings: Settings
    database: Database
    docker: Docker
    capsys: pytest.CaptureFixture[str]

    async def admit(self, telegram_id: int) -> int:
        """Somebody with a place; the number of their row."""
        async with self.database.write() as session:
            user = User(telegram_id=telegram_id, status=UserStatus.ACTIVE, created_at=now())
            session.add(user)
            await session.flush()
            session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
            return user.id

    async def make(self, user_id: int, instance_id: str) -> Instance:
        """The person's instance, declared, with a configuration that names them."""
        async with self.database.write() as session:
            image = str(self.settings.image)
            session.add(Instance(id=instance_id, user_id=user_id, plan="standard", image=image, created_at=now()))
            user = await session.get_one(User, user_id)
        async with provisioning(self.settings, self.database) as provisioner:
            await provisioner.reconciler.declare(instance_id)
        config = {"channels": {"telegram": {"allowFrom": [str(user.telegram_id)]}}}
        home = self.settings.state / "home"
        (home / CONFIG_FILE).parent.mkdir(parents=True, exist_ok=True)
        (home / CONFIG_FILE).write_text(json.dumps(config))
        self.docker("cp", f"{home}/.", f"{instance_id}:/home/node")
        async with self.database.read() as session:
            return await session.get_one(Instance, instance_id)

    async def restore_yesterday(self, instance_id: str) -> None:
        """A database from before the instance was made."""
        async with self.database.write() as session:
            await session.execute(delete(Instance).where(Instance.id == instance_id))
            for table in (Address, Operation):
                await session.execute(delete(table).where(table.instance_id == instance_id))

    async def command(self, *words: str) -> tuple[int, str]:
        """Exit code of a `zaki` command, and what it said."""
        # Commands bring an event loop of their own.
        code = await asyncio.to_thread(run, words)
        out, err = self.capsys.readouterr()
        return code, out + err


@pytest.fixture
async def zaki(
    docker: Docker,
    docker_host_stack: DockerHost,
    sleeping_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Zaki]:
    state = tmp_path / "state"
    state.mkdir()
    (state / "host.json").write_text((docker_host_stack.state / "host.json").read_text())
    for name in [name for name in os.environ if name.startswith("ZAKI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZAKI_STATE", str(state))
    monkeypatch.setenv("ZAKI_IMAGE", sleeping_image)
    monkeypatch.chdir(state)
    settings = load_settings(
        _env_file=None, state=state, telegram_token="1:a", telegram_api="http://127.0.0.1:9", image=sleeping_image
    )
    database = Database(settings.effective_database_url)
    await database.migrate()
    # The service ran here before: it made the keys, which a command that only reads does not.
    async with provisioning(settings, database):
        pass
    try:
        yield Zaki(settings, database, docker, capsys)
    finally:
        await database.close()


@pytest.fixture
def names(docker: Docker) -> Iterator[list[str]]:
    """Ids of two instances; what carries them is removed after the test."""
    names = [new_instance_id(), new_instance_id()]
    yield names
    for name in names:
        docker("rm", "-f", name, f"{name}-helper", check=False)
        docker("volume", "rm", "-f", name, check=False)


async def test_what_it_does_not_know_is_kept_and_given_back(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    ada, grace = await zaki.admit(ADA), await zaki.admit(GRACE)
    first = await zaki.make(ada, names[0])
    before = docker.inspect("container", names[0])
    await zaki.restore_yesterday(names[0])

    found = await find_leftovers(zaki.settings)
    assert {(thing.kind, thing.subject) for thing in found.leftovers} == {(Kind.STRANGER, names[0])}
    assert len(found.leftovers) == 3
    code, said = await zaki.command("doctor", "--fix", "--yes")
    assert code == 0
    assert f"zaki instance adopt {names[0]}" in said
    assert docker.inspect("container", names[0]) == before
    assert docker.inspect("volume", names[0]) is not None
    assert (zaki.settings.state / "stacks" / names[0]).exists()

    # It has never been started, and its address is not given away.
    assert (await zaki.make(grace, names[1])).address != first.address

    code, said = await zaki.command("instance", "adopt", names[0], "--user", str(GRACE))
    assert (code, str(ADA) in said) == (3, True)
    code, said = await zaki.command("instance", "adopt", names[1], "--user", str(ADA))
    assert (code, "is known already" in said) == (1, True)
    code, said = await zaki.command("instance", "adopt", names[0], "--user", str(ADA))
    assert code == 0, said
    async with zaki.database.read() as session:
        adopted = await session.get_one(Instance, names[0])
        wish = await session.get_one(Wish, ada)
    assert (adopted.user_id, adopted.address, adopted.image) == (ada, first.address, first.image)
    assert wish.generation > adopted.met_generation
    assert not (await find_leftovers(zaki.settings)).leftovers
    code, said = await zaki.command("instance", "up", names[0])
    assert (code, "unchanged" in said) == (0, True), said
    assert docker.inspect("container", names[0]) == before
    code, said = await zaki.command("doctor", "--fix", "--yes", names[0])
    assert (code, "zaki instance rm" in said) == (3, True)


async def test_whose_it_is_must_be_said_where_nothing_tells(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    await zaki.make(await zaki.admit(ADA), names[0])
    await zaki.restore_yesterday(names[0])
    docker("rm", "-f", names[0])
    code, said = await zaki.command("instance", "adopt", names[0], "--user", str(GRACE))
    assert (code, "--yes" in said) == (2, True)
    code, said = await zaki.command("instance", "adopt", names[0], "--user", str(GRACE), "--yes")
    assert code == 0, said
    async with zaki.database.read() as session:
        adopted = await session.get_one(Instance, names[0])
        user = await session.get_one(User, adopted.user_id)
    # A person whom the restored database did not know either.
    assert (user.telegram_id, user.status) == (GRACE, UserStatus.ACTIVE)
    code, said = await zaki.command("instance", "up", names[0])
    assert code == 0, said
    assert (
        CONFIG_FILE.encode()
        in subprocess.run(["docker", "cp", f"{names[0]}:/home/node", "-"], capture_output=True, check=True).stdout
    )


async def test_what_is_another_hosts_is_not_given_away(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    await zaki.admit(ADA)
    for name in names:
        docker("volume", "create", "--label", f"zaki.instance={name}", "--label", "zaki.network=zaki-elsewhere", name)
    docker("create", "--name", names[0], "--label", f"zaki.instance={names[0]}", str(zaki.settings.image))
    for name in names:
        code, said = await zaki.command("instance", "adopt", name, "--user", str(ADA), "--yes")
        assert (code, name in said) == (1, True), said
        code, said = await zaki.command("doctor", "--fix", name, "--yes")
        assert (code, f"nothing of {name}" in said) == (1, True), said
        assert docker.inspect("volume", name) is not None


async def test_only_its_name_removes_what_may_hold_files(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    for name, telegram_id in zip(names, (ADA, GRACE), strict=True):
        await zaki.make(await zaki.admit(telegram_id), name)
        await zaki.restore_yesterday(name)
    code, said = await zaki.command("doctor", "--fix", names[0])
    assert (code, "--yes" in said) == (2, True)
    assert docker.inspect("volume", names[0]) is not None
    code, said = await zaki.command("doctor", "--fix", names[0], "--yes", "--json")
    assert code == 0, said
    assert docker.inspect("container", names[0]) is None
    assert docker.inspect("volume", names[0]) is None
    assert not (zaki.settings.state / "stacks" / names[0]).exists()
    assert docker.inspect("volume", names[1]) is not None
    code, said = await zaki.command("doctor", "--fix", names[0], "--yes")
    assert (code, f"nothing of {names[0]}" in said) == (1, True)


async def test_what_holds_nothing_is_removed_and_what_is_broken_repaired(
    zaki: Zaki, docker: Docker, docker_host_stack: DockerHost, names: list[str], tmp_path: Path
) -> None:
    ada, gone = await zaki.admit(ADA), names[1]
    await zaki.make(ada, names[0])
    docker("rm", "-f", names[0])
    label = f"zaki.host_file={zaki.settings.state / 'host.json'}"
    extra = f"{docker_host_stack.spec.network}x"
    async with zaki.database.write() as session:
        session.add(Address(address="10.1.1.1", number=1, instance_id=gone, released_at=None))
        session.add(Operation(instance_id=gone, kind=OperationKind.CREATE, started_at=now()))
        session.add(Operation(instance_id=names[0], kind=OperationKind.CREATE, started_at=now()))
    spool = zaki.settings.state / "spool"
    spool.mkdir()
    (spool / f"{gone}.lost").write_bytes(b"x")
    os.utime(spool / f"{gone}.lost", (1.0, 1.0))
    (zaki.settings.state / "stacks" / gone).mkdir(parents=True)
    image = str(zaki.settings.image)
    docker("create", "--name", f"{gone}-helper", "--label", f"zaki.helper={gone}", "--network=none", image)
    docker("network", "create", "--internal", "--label", label, extra)
    try:
        code, said = await zaki.command("doctor", "--fix")
        assert (code, "--yes" in said) == (2, True)
        assert docker.inspect("network", extra) is not None
        code, said = await zaki.command("doctor", "--fix", "--yes")
        assert code == 0, said
        assert docker.inspect("network", extra) is None
    finally:
        docker("network", "rm", extra, check=False)
    assert docker.inspect("container", f"{gone}-helper") is None
    assert docker.inspect("container", names[0]) is not None
    assert list(spool.iterdir()) == []
    assert not (zaki.settings.state / "stacks" / gone).exists()
    async with zaki.database.read() as session:
        assert (await session.get_one(Address, "10.1.1.1")).instance_id is None
    assert not (await find_leftovers(zaki.settings)).leftovers
    code, said = await zaki.command("doctor", "--fix")
    assert (code, "nothing to bring in order" in said) == (0, True)


async def test_what_was_archived_since_is_found_again(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    name = names[0]
    await zaki.make(await zaki.admit(ADA), name)
    async with provisioning(zaki.settings, zaki.database) as provisioner:
        saved = await provisioner.context.archive.save(name)
        await provisioner.context.stacks.destroy(name)
        # The row is from before that: it says that there are a container and a volume.
        code, said = await zaki.command("doctor", "--fix", "--yes")
        assert code == 0, said
        async with zaki.database.read() as session:
            row = await session.get_one(Instance, name)
        # The new volume is empty, and the next wake fills it from here before it starts anything.
        assert (row.archive, row.config_hash) == (saved.snapshot, None)
        assert docker.inspect("container", name) is not None
        assert not (await find_leftovers(zaki.settings)).leftovers
        assert await provisioner.context.archive.restore(name, saved.snapshot)
        assert await provisioner.context.containers.read_file(name, CONFIG_FILE) is not None


async def test_an_archive_is_given_back_to_its_person(zaki: Zaki, docker: Docker, names: list[str]) -> None:
    name = names[0]
    await zaki.make(await zaki.admit(ADA), name)
    async with provisioning(zaki.settings, zaki.database) as provisioner:
        saved = await provisioner.context.archive.save(name)
        await provisioner.context.stacks.destroy(name)
    await zaki.restore_yesterday(name)
    code, said = await zaki.command("doctor", "--fix", "--yes")
    assert (code, f"the archive of {name} belongs to no instance" in said) == (0, True)
    code, said = await zaki.command("instance", "adopt", name, "--user", str(ADA), "--yes")
    assert code == 0, said
    async with zaki.database.read() as session:
        row = await session.get_one(Instance, name)
    assert (row.archive, row.container) == (saved.snapshot, ContainerState.NONE)
    assert not (await find_leftovers(zaki.settings)).leftovers
    await zaki.restore_yesterday(name)
    code, said = await zaki.command("doctor", "--fix", name, "--yes")
    assert code == 0, said
    assert not (zaki.settings.state / "archives" / name).exists()
    assert docker.inspect("volume", name) is None


async def test_whose_container_and_image_are_gone_is_made_of_the_image_of_today(
    zaki: Zaki, docker: Docker, names: list[str]
) -> None:
    name = names[0]
    await zaki.make(await zaki.admit(ADA), name)
    docker("rm", "-f", name)
    async with zaki.database.write() as session:
        (await session.get_one(Instance, name)).image = "sha256:" + "0" * 64
    code, said = await zaki.command("instance", "up", name)
    assert (code, "unchanged" in said) == (0, False), said
    found = docker.inspect("container", name)
    assert found is not None
    assert found["Image"] == zaki.settings.image
    async with zaki.database.read() as session:
        assert (await session.get_one(Instance, name)).image == zaki.settings.image
