"""How tests are shared out among the processes of `pytest -n`, which run them at the same time."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Where tests are by how long their longest takes: what is begun last should be over soon.
_LONGEST_FIRST = (
    "tests/vm/",
    "tests/e2e/test_release.py",
    "tests/e2e/test_faults.py",
    "tests/e2e/test_scripts.py",
    "tests/e2e/conversation/",
    "tests/e2e/network/",
    "tests/e2e/",
    "tests/integration/",
)
#: Here tests take long and share what is made for a session, no more: each may run in any process.
_APART = (
    "tests/e2e/conversation/",
    "tests/e2e/test_archive_of_a_volume.py",
    "tests/e2e/test_disks.py",
    "tests/e2e/test_docker_trouble.py",
    "tests/e2e/test_drift.py",
    "tests/e2e/test_restored_database.py",
    "tests/e2e/test_stacks.py",
)


class Sharing(LoadScopeScheduling):
    """Tests of one module run in one process, in order, but for those that stand :data:`_APART`."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_APART) else nodeid.partition("::")[0]


def sort(items: list[pytest.Item]) -> None:
    """Put what takes long first; the order within a module stays."""

    def place(item: pytest.Item) -> int:
        found = (number for number, where in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(where))
        return next(found, len(_LONGEST_FIRST))

    items.sort(key=place)
