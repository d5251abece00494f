"""A PostgreSQL of the tests' own."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


class PostgresCluster:
    """A temporary PostgreSQL that listens on a Unix socket alone; the server refuses to run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "--username=zaki", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self) -> None:
        """Stop the server; its folder is the caller's to remove."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, name: str) -> str:
        """SQLAlchemy URL of one of the cluster's databases."""
        return f"postgresql+asyncpg://zaki@/{name}?host={self.folder}"

    async def execute(self, statement: str) -> None:
        """Run a statement that may not be in a transaction, such as CREATE DATABASE."""
        engine = create_async_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                await connection.execute(text(statement))
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def new_database(self) -> AsyncIterator[str]:
        """URL of an empty database, which is dropped at the end of the block."""
        name = f"zaki_{uuid4().hex}"
        await self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl's server inherits its output, so a pipe here would never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [self._programs / program, *arguments],
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PGDATA": str(self.folder / "data")},
                cwd=self.folder,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
            if done.returncode != 0:
                output.seek(0)
                pytest.fail(f"PostgreSQL's {program} failed, see its words: {output.read()}", pytrace=False)
