"""`zaki schema` on a database that somebody works with."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from alembic.script import ScriptDirectory

from bot.store import Database

NEWEST = ScriptDirectory(str(Path(__file__).parents[3] / "bot/store/migrations")).get_current_head()


async def test_it_says_what_there_is_and_copies_it(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'zaki.sqlite3'}"
    database = Database(url)
    await database.migrate()
    try:
        async with database.write():
            copy = tmp_path / "copy.sqlite3"
            found = zaki_schema(url, tmp_path, "--json", "--copy", str(copy))
    finally:
        await database.close()
    assert json.loads(found.stdout) == {
        "present": NEWEST,
        "newest": NEWEST,
        "changes": False,
        "way_back": True,
        "copy": str(copy),
    }
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as copied:
        assert copied.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEWEST,)]


def test_what_is_no_sqlite_is_not_copied(tmp_path: Path) -> None:
    found = zaki_schema("postgresql://127.0.0.1:9/zaki", tmp_path, "--copy", str(tmp_path / "copy"))
    assert found.returncode == 1
    assert "pg_dump" in found.stderr


def zaki_schema(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
    return subprocess.run(
        [Path(sys.executable).with_name("zaki"), "schema", *words],
        cwd=folder,
        env={**environment, "ZAKI_DATABASE_URL": url, "ZAKI_STATE": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
