"""What the services know of the host: the file that the host stack writes, their only source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bot.settings import Settings, SettingsError

SYSTEM_FILE = Path("/etc/zaki/host.json")


@dataclass(frozen=True)
class HostFacts:
    """The bridge that instances live on, and the image that they run."""

    #: Docker network's name, and its bridge's device.
    network: str
    bridge: str
    subnet: IPv4Network
    #: The host's address on the bridge.
    gateway: IPv4Address
    #: The part of the subnet from which Docker itself may give addresses; never ours.
    docker_range: IPv4Network
    #: `sha256:…` image id or `name@sha256:…`.
    image: str
    #: OCI runtime, for example `runc`.
    runtime: str

    @classmethod
    def read(cls, path: Path) -> HostFacts:
        """Parse the file; raises :class:`SettingsError` with what to do."""
        try:
            found = json.loads(path.read_text())
            return cls(
                network=str(found["network"]),
                bridge=str(found["bridge"]),
                subnet=IPv4Network(found["subnet"]),
                gateway=IPv4Address(found["gateway"]),
                docker_range=IPv4Network(found["docker_range"]),
                image=str(found["image"]),
                runtime=str(found["runtime"]),
            )
        except FileNotFoundError:
            raise SettingsError(f"{path} is missing; declare this host first with `zaki host up`.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path} cannot be read ({error}); write it again with `zaki host up`.") from None


def host_file(settings: Settings) -> Path:
    """Where the host's facts are: `STATE/host.json`, else `/etc/zaki/host.json`."""
    local = settings.state / "host.json"
    return local if local.exists() or not SYSTEM_FILE.exists() else SYSTEM_FILE
