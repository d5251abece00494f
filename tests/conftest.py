"""Fixtures that tests of every kind share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresCluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """The cluster that all tests of a session share, each with a database of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL's programs are missing; run `scripts/setup tests`, which installs them.", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="zaki-pg-", dir="/tmp"))
    cluster = PostgresCluster(folder, found[-1].parent)
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder)
