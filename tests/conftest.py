"""Fixtures that tests of every kind share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import workers
from tests.postgres import PostgresCluster

# How long an example takes says more about what else the machine does.
settings.register_profile("zaki", deadline=None)
settings.load_profile("zaki")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long is begun first where tests run at the same time."""
    if config.getoption("numprocesses") or hasattr(config, "workerinput"):
        workers.sort(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Sharing:
    """Tests are shared out as Zaki's can be."""
    return workers.Sharing(config, log)


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
