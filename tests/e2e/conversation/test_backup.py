"""A machine that is lost: everybody's files and words come back from a backup onto an empty one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bot.bench.standin_image import standin_image
from bot.provisioner import disks
from bot.provisioner.leftovers import find_leftovers
from bot.standins.telegram.client import SimulatedPerson
from bot.store import Database
from bot.store.tables import ContainerState
from bot.toolchain import Toolchain
from tests.e2e.conftest import DockerHost
from tests.e2e.conversation.served import ServedZaki, until
from tests.e2e.conversation.test_first_conversation import docker, echoes

NOTE = "/home/node/.openclaw/workspace/note.txt"
LARGE = "/home/node/.openclaw/workspace/large"
WRITER = """
import sqlite3
found = sqlite3.connect("/home/node/memory.sqlite")
found.execute("PRAGMA journal_mode=WAL")
found.execute("CREATE TABLE said (number INTEGER, words TEXT)")
for number in range(10**9):
    with found:
        found.executemany("INSERT INTO said VALUES (?, ?)", [(number, "word " * 200)] * 4)
        found.execute("DELETE FROM said WHERE number < ?", (number - 500,))
"""
READER = """
import sqlite3
found = sqlite3.connect("/home/node/memory.sqlite")
print(found.execute("PRAGMA integrity_check").fetchone()[0])
counts = found.execute("SELECT count(*) FROM said GROUP BY number").fetchall()
print(bool(counts) and set(counts) == {(4,)})
"""


@pytest.fixture
async def standin(zaki: ServedZaki, toolchain: Toolchain) -> ServedZaki:
    """The service, whose instances are the fast stand-in."""
    zaki.stop()
    await zaki.start(ZAKI_IMAGE=standin_image(toolchain.image_tag))
    return zaki


async def test_a_person_has_all_again_after_their_machine_was_lost(
    standin: ServedZaki, toolchain: Toolchain, docker_host_stack: DockerHost, tmp_path: Path
) -> None:
    zaki = standin
    grace = await zaki.people.new_user(first_name="Grace")
    await talk(zaki, grace, "hello from Grace")
    instance = await zaki.instance_of(grace.id)
    assert instance is not None
    docker(
        "exec", instance.id, "sh", "-c", f"echo 'the answer is 42' > {NOTE}; head -c 60000000 /dev/urandom > {LARGE}"
    )
    checksum = docker("exec", instance.id, "sha256sum", LARGE)
    # Its gateway does not know of this writer, so every copy cuts into one of its transactions.
    docker("exec", "--detach", instance.id, "python3", "-c", WRITER)

    # Killed wherever it is, awake instances go on and the next one makes a whole backup.
    for frozen in (True, False):
        await killed_backup(zaki, instance.id, frozen=frozen)
        await talk(zaki, grace, f"after one that was killed, {frozen}")
    made = json.loads(zaki.command("backup", "--json"))
    assert [(one["id"], one["trouble"]) for one in made["instances"]] == [(instance.id, None)]
    assert made["instances"][0]["held"] in ("held still", "busy")
    await talk(zaki, grace, "and on we go")
    key = zaki.command("backup", "key").strip()

    await lose(zaki, instance.id, docker_host_stack)
    key_file = tmp_path / "key"
    key_file.write_text("0" * 64)
    code, said = zaki.run("restore", "--yes", "--key-file", str(key_file))
    assert (code, "The key is not the one" in said) == (1, True), said
    key_file.write_text(key)
    shown = json.loads(zaki.command("restore", "--dry-run", "--json", "--key-file", str(key_file)))
    assert [one["id"] for one in shown["instances"]] == [instance.id]
    assert sorted(path.name for path in zaki.state.iterdir()) == ["backups", "host.json"]

    await killed_restore(zaki, instance.id, key_file)
    code, said = zaki.run("serve")
    assert (code, "zaki restore" in said) == (2, True), said
    zaki.command("restore", "--yes", "--key-file", str(key_file))
    code, said = zaki.run("restore", "--yes", "--key-file", str(key_file))
    assert (code, "empty" in said) == (3, True), said

    zaki.database = Database(zaki.settings.effective_database_url)
    await zaki.start(ZAKI_IMAGE=standin_image(toolchain.image_tag))
    found = await zaki.instance_of(grace.id)
    assert found is not None
    assert (found.id, found.container) == (instance.id, ContainerState.NONE)
    await talk(zaki, grace, "are you there?")
    assert docker("exec", instance.id, "cat", NOTE) == "the answer is 42\n"
    assert docker("exec", instance.id, "sha256sum", LARGE) == checksum
    assert docker("exec", instance.id, "python3", "-c", READER).split() == ["ok", "True"]
    assert not (await find_leftovers(zaki.settings)).leftovers


async def killed_backup(zaki: ServedZaki, instance_id: str, *, frozen: bool) -> None:
    """`kill -9` of a backup while the instance is frozen, or once it goes on and its files are being stored."""
    backup = zaki.popen("backup")

    async def copied(state: str) -> bool:
        assert backup.poll() is None
        return docker("inspect", "--format", "{{.State.Status}}", instance_id).strip() == state

    await until(lambda: copied("paused"), "the copy")
    if not frozen:
        await until(lambda: copied("running"), "the end of the copy")
    backup.kill()
    backup.communicate()


async def killed_restore(zaki: ServedZaki, instance_id: str, key_file: Path) -> None:
    """`kill -9` of a restore while it makes somebody's archive."""
    restore = zaki.popen("restore", "--yes", "--key-file", str(key_file))

    async def half_made() -> bool:
        assert restore.poll() is None
        return any((zaki.state / "archives" / instance_id).glob(".draft-*"))

    await until(half_made, "the archive's draft")
    restore.kill()
    restore.communicate()


async def lose(zaki: ServedZaki, instance_id: str, host: DockerHost) -> None:
    """Of all that there was, only the backups are left."""
    zaki.kill()
    await zaki.database.close()
    docker("rm", "--force", instance_id)
    docker("volume", "rm", instance_id)
    await disks.remove(str(host.state / "volumes"), instance_id)
    for path in zaki.state.iterdir():
        if path.is_dir() and path.name != "backups":
            shutil.rmtree(path)
        elif path.name not in ("backups", "host.json"):
            path.unlink()


async def talk(zaki: ServedZaki, person: SimulatedPerson, text: str) -> None:
    """The person says something and gets their assistant's answer."""
    said = await zaki.people.say(person, text)
    await zaki.people.wait_for_reply(person, after=said.id, timeout=120, predicate=echoes(text))
