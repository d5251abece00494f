"""A PostgreSQL of the bench's own, with its durability as it is by default."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoPostgres(Exception):
    """There is no PostgreSQL on this machine; the message says how to get one."""


@contextmanager
def postgresql() -> Iterator[str]:
    """URL of an empty database while the block runs; raises :class:`NoPostgres`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise NoPostgres("PostgreSQL's programs are missing; install Debian's postgresql.")
    programs = found[-1].parent
    # The server refuses to run as root, and a socket's path must be short.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="zaki-pg-"))
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)

    def command(program: str, *words: str) -> None:
        # The server that pg_ctl starts keeps its output open, so a pipe here would never end.
        subprocess.run(
            [programs / program, *words],
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PGDATA": str(folder / "data")},
            cwd=folder,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    try:
        command("initdb", "--username=zaki", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        command("pg_ctl", "start", "--wait", f"--log={folder / 'log'}", f"--options={options}")
        try:
            yield f"postgresql+asyncpg://zaki@/postgres?host={folder}"
        finally:
            command("pg_ctl", "stop", "--wait", "--mode=fast")
    finally:
        shutil.rmtree(folder)
