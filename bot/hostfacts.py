"""What the services know of the host: the file that the host stack writes, their only source."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from bot.settings import Settings, SettingsError

SYSTEM_FILE = Path("/etc/zaki/host.json")


@dataclass(frozen=True)
class EgressFacts:
    """What a host with a firewall has for instances to leave the bridge."""

    #: The file of members that the firewall is refilled from.
    members: Path
    #: Whom instances ask for names.
    resolver: IPv4Address
    #: By plan: `address:port` of the proxy that leads to the plan's list of names.
    proxies: Mapping[str, str]

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> EgressFacts:
        """From the file's object; raises ValueError, KeyError or TypeError."""
        proxies = {str(plan): str(proxy) for plan, proxy in dict(found["proxies"]).items()}
        return cls(members=Path(found["members"]), resolver=IPv4Address(found["resolver"]), proxies=proxies)


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
    #: Folder with the disks of instances; None: their volumes are plain ones, without a limit.
    volumes: Path | None = None
    #: None: the host was declared without a firewall.
    egress: EgressFacts | None = None

    @classmethod
    def read(cls, path: Path) -> HostFacts:
        """Parse the file; raises :class:`SettingsError` with what to do."""
        try:
            found = json.loads(path.read_text())
            # What an older host stack has written says nothing of disks.
            volumes = found.get("volumes")
            return cls(
                network=str(found["network"]),
                bridge=str(found["bridge"]),
                subnet=IPv4Network(found["subnet"]),
                gateway=IPv4Address(found["gateway"]),
                docker_range=IPv4Network(found["docker_range"]),
                image=str(found["image"]),
                runtime=str(found["runtime"]),
                volumes=Path(volumes) if volumes is not None else None,
                egress=EgressFacts.parse(found["egress"]) if "egress" in found else None,
            )
        except FileNotFoundError:
            raise SettingsError(f"{path} is missing; declare this host first with `zaki host up`.") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{path} cannot be read ({error}); write it again with `zaki host up`.") from None


def host_file(settings: Settings) -> Path:
    """Where the host's facts are: `STATE/host.json`, else `/etc/zaki/host.json`."""
    local = settings.state / "host.json"
    return local if not SYSTEM_FILE.exists() or _is_ours(local) else SYSTEM_FILE


def _is_ours(file: Path) -> bool:
    """Whether it is there, and nobody's who may merely write beside it: a host's front may, and root reads this."""
    try:
        return file.lstat().st_uid in (0, os.geteuid(), file.parent.stat().st_uid)
    except FileNotFoundError:
        return False
