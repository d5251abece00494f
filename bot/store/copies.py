"""Copies of a database that is in use, and back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL

#: Seconds that PostgreSQL's programs may take.
_PATIENCE = 3600.0


class CopyFailed(Exception):
    """The database cannot be copied, or not be brought back; the message is one sentence that says what to do."""


def copy_sqlite(source: Path, to: Path) -> None:
    """Copy a SQLite database as it is at one moment, whoever works with it; `to` is there when it is whole."""
    draft = to.with_name(f"{to.name}.draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(source)) as present,
        contextlib.closing(sqlite3.connect(draft)) as written,
    ):
        present.backup(written)
    draft.replace(to)


def dump_postgresql(url: URL, to: Path) -> None:
    """Copy a PostgreSQL database as it is at one moment; raises :class:`CopyFailed`."""
    to.touch(mode=0o600)
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={to}")


def load_postgresql(url: URL, dump: Path) -> None:
    """Bring a copy back in place of what is there, all or nothing; raises :class:`CopyFailed`."""
    options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run("pg_restore", url, *options, f"--dbname={url.database}", str(dump))


def _run(program: str, url: URL, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise CopyFailed(f"{program} is missing; install postgresql-client of your server's version.")
    try:
        done = subprocess.run(
            [program, *arguments],
            env={"PATH": os.environ.get("PATH", os.defpath), **_connection(url)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CopyFailed(f"{program} did not end within {_PATIENCE / 60:.0f} minutes; look at the database.") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise CopyFailed(f"{program} failed: {lines[0] if lines else 'it did not say why'}.")


def _connection(url: URL) -> Mapping[str, str]:
    """As libpq's variables, so that no password is on a command line."""
    host = url.host or url.query.get("host")
    named = {
        "PGHOST": host if isinstance(host, str) else None,
        "PGPORT": str(url.port) if url.port is not None else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    return {name: str(value) for name, value in named.items() if value}
