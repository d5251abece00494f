"""How a container is made, as the Docker daemon tells it: what a stack declares, and a hand may have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PERIOD = 100_000


@dataclass(frozen=True)
class Shape:
    """All of a container that its stack declares."""

    #: Docker's id of the image, and how the image was named when the container was made.
    image: str
    image_name: str
    user: str
    labels: Mapping[str, str]
    environment: frozenset[str]
    #: Bytes; 0: no limit.
    memory: int
    memory_and_swap: int
    #: Billionths of a processor; 0: no limit.
    nano_cpus: int
    #: 0: the default share.
    cpu_shares: int
    #: 0: no limit.
    pids: int
    #: Fixed addresses by the networks that it is on; None: Docker gives it one.
    networks: Mapping[str, str | None]
    #: Kind, name or path, and place of everything that is mounted.
    mounts: frozenset[tuple[str, str, str]]
    tmpfs: Mapping[str, str]
    runtime: str
    restart: str
    read_only: bool
    init: bool
    privileged: bool
    added_capabilities: frozenset[str]
    dropped_capabilities: frozenset[str]
    security_options: frozenset[str]
    #: Namespaces of the host that it shares, by their kinds.
    host_namespaces: frozenset[str]
    devices: int
    ports: int

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Shape:
        """The shape of a container, from Docker's answer to `inspect`."""
        config, host = found["Config"], found["HostConfig"]
        networks = found["NetworkSettings"]["Networks"]
        spaces = {"network": "NetworkMode", "process": "PidMode", "IPC": "IpcMode", "user": "UsernsMode"}
        return cls(
            image=found["Image"],
            image_name=config["Image"],
            user=config.get("User") or "",
            labels=dict(config.get("Labels") or {}),
            environment=frozenset(config.get("Env") or ()),
            memory=host.get("Memory") or 0,
            memory_and_swap=host.get("MemorySwap") or 0,
            nano_cpus=host.get("NanoCpus") or _by_quota(host),
            cpu_shares=host.get("CpuShares") or 0,
            pids=max(host.get("PidsLimit") or 0, 0),
            networks={name: (on.get("IPAMConfig") or {}).get("IPv4Address") for name, on in networks.items()},
            mounts=frozenset((m["Type"], m.get("Name") or m["Source"], m["Destination"]) for m in found["Mounts"]),
            tmpfs=dict(host.get("Tmpfs") or {}),
            runtime=host.get("Runtime") or "",
            restart=(host.get("RestartPolicy") or {}).get("Name") or "no",
            read_only=bool(host.get("ReadonlyRootfs")),
            init=bool(host.get("Init")),
            privileged=bool(host.get("Privileged")),
            added_capabilities=frozenset(host.get("CapAdd") or ()),
            dropped_capabilities=frozenset(host.get("CapDrop") or ()),
            security_options=frozenset(host.get("SecurityOpt") or ()),
            host_namespaces=frozenset(kind for kind, key in spaces.items() if host.get(key) == "host"),
            devices=len(host.get("Devices") or ()) + len(host.get("DeviceRequests") or ()),
            ports=len(host.get("PortBindings") or ()),
        )


def _by_quota(host: Mapping[str, Any]) -> int:
    """The limit of processors where it was set as a quota of a period."""
    quota = host.get("CpuQuota") or 0
    return quota * 1_000_000_000 // (host.get("CpuPeriod") or _PERIOD) if quota > 0 else 0
