"""One world for all tests of a module, and a freshly loaded firewall for each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from infra.firewall import FirewallSpec
from tests.e2e.network.namespaces import GATEWAY, World, world

#: Users of every Debian machine, in the places of Zaki's own; one more does not exist (yet).
SPEAKER, FETCHER, STRANGER = "daemon", "proxy", "games"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world without a firewall."""
    folder = tmp_path_factory.mktemp("host")
    # Everybody's, since some of what runs here is not root.
    for path in (folder, *folder.parents):
        if path.is_relative_to(tempfile.gettempdir()) and path != Path(tempfile.gettempdir()):
            path.chmod(0o755)
    with world(folder, specified(folder)) as made:
        yield made


@pytest.fixture
def guarded(bare: World) -> Iterator[World]:
    """The world behind its firewall, with no members."""
    bare.members.parent.mkdir(parents=True, exist_ok=True)
    bare.members.write_text("")
    bare.write(bare.firewall)
    loaded = bare.load()
    assert loaded.returncode == 0, loaded.stderr
    bare.watch()
    yield bare
    bare.unload()


def specified(folder: Path) -> FirewallSpec:
    """A firewall with its files below the folder."""
    return FirewallSpec(
        bridge="zaki0",
        subnet=IPv4Network("10.86.0.0/16"),
        gateway=IPv4Address(GATEWAY),
        proxy_ports=(3128, 3129),
        speakers=(SPEAKER, "zaki-nobody-yet"),
        fetchers=(FETCHER, "zaki-nobody-yet"),
        # Attempts are made in bursts here; limits have tests of their own.
        new_connections=1000,
        new_at_once=2000,
        folder=str(folder),
        run=str(folder / "run"),
    )
