"""Fixtures with real machines: a bare Debian VM for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.machine import Agent, Disk, Vm, running_vm


@pytest.fixture(scope="session")
def disk() -> Disk:
    """The disk of a bare Debian, built once."""
    return Disk.build()


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An SSH agent of the session's own, with a key that nothing else knows."""
    agent = Agent(tmp_path_factory.mktemp("keys"))
    try:
        yield agent
    finally:
        agent.close()


@pytest.fixture(scope="module")
def vm(disk: Disk, agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A VM that has just started for the first time."""
    with running_vm(disk, agent, tmp_path_factory.mktemp("vm")) as vm:
        yield vm
