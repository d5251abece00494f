"""Who may read and write the files of a SQLite database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.store import Database
from bot.store.tables import User

#: A user and a group that nobody has.
STRANGER, GROUP = 54_321, 54_322
WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("UPDATE users SET first_name = 'Ben'")
connection.commit()
"""

Umask = Callable[[int], None]


@pytest.fixture
def umask() -> Iterator[Umask]:
    """Sets the umask until the test ends."""
    before = os.umask(0o022)

    def change(mask: int) -> None:
        os.umask(mask)

    yield change
    os.umask(before)


async def use(path: Path) -> dict[str, int]:
    """Write to a database there; the modes of its files while it is open."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    try:
        await database.migrate()
        async with database.write() as session:
            session.add(User(telegram_id=7, first_name="Ada", created_at=0.0))
        return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        await database.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_is_as_private_as_the_keys(umask: Umask, tmp_path: Path) -> None:
    umask(0o022)
    modes = await use(tmp_path / "state" / "db" / "zaki.sqlite3")
    assert modes == {"zaki.sqlite3": 0o640, "zaki.sqlite3-wal": 0o640, "zaki.sqlite3-shm": 0o640}
    assert mode(tmp_path / "state" / "db") == 0o750


async def test_a_tighter_umask_holds(umask: Umask, tmp_path: Path) -> None:
    umask(0o077)
    modes = await use(tmp_path / "state" / "db" / "zaki.sqlite3")
    assert set(modes.values()) == {0o600}
    assert mode(tmp_path / "state" / "db") == 0o700


async def test_what_an_operator_has_made_stays_as_it_is(umask: Umask, tmp_path: Path) -> None:
    umask(0o022)
    folder = tmp_path / "db"
    folder.mkdir()
    folder.chmod(0o775)
    (folder / "zaki.sqlite3").touch()
    (folder / "zaki.sqlite3").chmod(0o664)
    modes = await use(folder / "zaki.sqlite3")
    assert set(modes.values()) == {0o664}
    assert mode(folder) == 0o775


@pytest.mark.parametrize("mask", [0o007, 0o022])
async def test_a_group_shares_it_where_the_folder_is_the_groups(umask: Umask, tmp_path: Path, mask: int) -> None:
    umask(mask)
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o2770)
    modes = await use(state / "db" / "zaki.sqlite3")
    assert modes == {"zaki.sqlite3": 0o660, "zaki.sqlite3-wal": 0o660, "zaki.sqlite3-shm": 0o660}
    assert mode(state / "db") == 0o2770


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_two_users_of_the_group_both_write(umask: Umask) -> None:
    umask(0o007)
    # What the tests share is root's alone.
    state = Path(tempfile.mkdtemp(prefix="zaki-state-", dir="/tmp"))
    try:
        os.chown(state, 0, GROUP)
        state.chmod(0o2770)
        path = state / "db" / "zaki.sqlite3"
        await use(path)
        python = Path("/usr/bin/python3")
        command = [str(python if python.exists() else sys.executable), "-c", WRITE, str(path)]
        done = subprocess.run(command, user=STRANGER, group=GROUP, extra_groups=[], umask=0o007, cwd="/", check=False)
        assert done.returncode == 0
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT first_name FROM users").fetchall() == [("Ben",)]
        connection.close()
        outside = subprocess.run(command, user=STRANGER, group=STRANGER, extra_groups=[], cwd="/", capture_output=True)
        assert outside.returncode != 0
    finally:
        shutil.rmtree(state)
