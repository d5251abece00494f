"""Fixtures with one real machine: a bare Debian that becomes a host, seen by its operator and from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from bot.standins.telegram import SimulatorClient
from bot.standins.telegram.client import SimulatedPerson
from tests.vm.machine import Agent, Disk, Vm, wait_until
from tests.vm.operator import Operator, cut_again_and_again, disk_for_serving, running_telegram
from tests.vm.outside import Outside, vm_seen_from_outside
from tests.vm.wire import Wire

_T = TypeVar("_T")
#: How often the way in is cut while the host is made; `scripts/bench cuts` does it more often.
CUTS = 1
#: Where qemu's user network has the one who works on the VM.
OPERATOR = "10.0.2.2"
#: Published by Docker, on every address.
PUBLISHED = 8443


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """The disk of a bare Debian, with filled caches."""
    return disk_for_serving(Disk.build(), tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An SSH agent of the session's own, with a key that nothing else knows."""
    agent = Agent(tmp_path_factory.mktemp("keys"))
    try:
        yield agent
    finally:
        agent.close()


@pytest.fixture(scope="session")
def seen(disk: Disk, agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Vm, Outside]]:
    """A VM that has just started for the first time, with people on two sides."""
    with vm_seen_from_outside(disk, agent, tmp_path_factory.mktemp("vm")) as seen:
        yield seen


@pytest.fixture(scope="session")
def vm(seen: tuple[Vm, Outside]) -> Vm:
    """It, from the operator's side."""
    return seen[0]


@pytest.fixture(scope="session")
def outside(seen: tuple[Vm, Outside]) -> Outside:
    """Its strangers."""
    return seen[1]


@pytest.fixture(scope="session")
def wire(vm: Vm) -> Iterator[Wire]:
    """The way to the VM on which the engine works, which the test's own log-ins do not take."""
    wire = Wire(vm.port)
    try:
        yield wire
    finally:
        wire.close()


@pytest.fixture(scope="session")
def telegram() -> Iterator[str]:
    """A simulated Telegram on this machine."""
    with running_telegram() as telegram:
        yield telegram


@pytest.fixture(scope="session")
def operator(vm: Vm, wire: Wire, telegram: str, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """Somebody with a stack that is configured, of a machine to which nothing was done."""
    return _done(Operator.begin(vm, tmp_path_factory.mktemp("operator"), telegram, wire.port))


@pytest.fixture(scope="session")
def before(vm: Vm, operator: Operator) -> str:
    """The machine with somebody's own rules of UFW, after an `up` that would have locked the operator out.

    The rule that does so is somebody's own too: UFW was off, so nobody had noticed.
    """
    vm.run("apt-get install -q -y --no-install-recommends ufw")
    vm.run(f"ufw deny from {OPERATOR}")
    code, _, _ = _done(operator.zaki("host", "up", "--stack", "vm"))
    assert code == 1
    wait_until(lambda: vm.run("true", check=False, timeout=20).returncode == 0, "the way back in")
    wait_until(lambda: vm.run("test -e /var/lib/zaki/steps/ufw", check=False).returncode == 1, "the end of the undoing")
    assert vm.read("ufw status") == "Status: inactive"
    assert vm.read("ufw show added").splitlines()[1:] == [f"ufw deny from {OPERATOR}"]
    vm.run(f"ufw delete deny from {OPERATOR}")
    vm.run(
        "ufw allow OpenSSH && ufw allow 443/tcp comment mine && ufw default reject incoming && "
        "ufw allow from 203.0.113.5 to any port 8022 proto tcp && ufw --force enable"
    )
    return vm.read("ufw show added")


@pytest.fixture(scope="session")
def host(vm: Vm, wire: Wire, operator: Operator, before: str) -> Vm:
    """The host, after an `up` that was cut several times, with a container that Docker publishes a port of."""
    assert before
    assert _done(cut_again_and_again(operator, wire, CUTS)) == 0
    print("up:", _done(operator.first_up()))
    # As small as a container can be.
    vm.run(
        "tar --create --dereference /usr/bin/sleep /lib/x86_64-linux-gnu/libc.so.6 /lib64/ld-linux-x86-64.so.2 | "
        "docker import - tiny:1"
    )
    vm.run(f"docker run --detach --restart always --name published --publish {PUBLISHED}:80 tiny:1 /usr/bin/sleep inf")
    return vm


@pytest_asyncio.fixture
async def people(telegram: str) -> AsyncIterator[SimulatorClient]:
    """Whoever is in the simulated Telegram."""
    async with SimulatorClient(telegram) as people:
        yield people


@pytest.fixture(scope="session")
def person(telegram: str) -> SimulatedPerson:
    """Somebody whose assistant lives through all of it."""

    async def made() -> SimulatedPerson:
        async with SimulatorClient(telegram) as people:
            return await people.new_user(first_name="Ada")

    return _done(made())


def _done(work: Coroutine[Any, Any, _T]) -> _T:
    """What comes of it, in a loop of its own: fixtures of a session outlive the loop of a test."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, work).result()
