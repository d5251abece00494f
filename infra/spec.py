"""What a stack is made from: typed, validated, and written to and read from Pulumi's configuration."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

#: Pulumi project, and the namespace of its configuration keys.
PROJECT = "zaki"

#: An OpenClaw gateway is killed by its own first turn below this.
MEMORY_FLOOR_MIB = 1280

INSTANCE_LABEL = "zaki.instance"
STACK_LABEL = "zaki.stack"
PLAN_LABEL = "zaki.plan"
#: On a host's network: where that host's facts are written.
HOST_LABEL = "zaki.host_file"
PIDS_LABEL = "zaki.pids"
#: Whose bridge a volume's instance is on: a machine may have several hosts, and volumes have no network.
NETWORK_LABEL = "zaki.network"
RESERVED_LABELS = frozenset({INSTANCE_LABEL, STACK_LABEL, PLAN_LABEL, PIDS_LABEL, NETWORK_LABEL})

#: Inline, so that no image and no volume can lack one: Node.js ends where a file to load first is missing.
_LOADED_FIRST = " ".join(
    f"--import=data:text/javascript;base64,{b64encode((Path(__file__).parent / name).read_bytes()).decode()}"
    for name in ("keep_workers.mjs", "send_again.mjs")
)

#: Where the volume of an instance is, who it runs as, what its environment says, and the rest that it may write to.
HOME = "/home/node"
USER = "1000:1000"
ENVIRONMENT = (
    f"HOME={HOME}",
    f"OPENCLAW_HOME={HOME}",
    f"OPENCLAW_STATE_DIR={HOME}/.openclaw",
    f"OPENCLAW_CONFIG_PATH={HOME}/.openclaw/openclaw.json",
    "OPENCLAW_DISABLE_BONJOUR=1",
    "OPENCLAW_NO_RESPAWN=1",
    f"NODE_OPTIONS={_LOADED_FIRST}",
)
TMPFS = MappingProxyType({"/tmp": "rw,nosuid,nodev,size=256m,mode=1777"})  # noqa: S108

_INSTANCE_ID = re.compile(r"u-[a-z0-9]{10}")
_NETWORK = re.compile(r"[a-z][a-z0-9-]{0,62}")
#: The kernel's limit for the name of a device is 15 characters.
_DEVICE = re.compile(r"[a-z][a-z0-9-]{0,14}")
_DIGEST = re.compile(r"(?:[a-z0-9][a-zA-Z0-9._:/-]{0,254}@)?sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]{0,254}")
_CPUS = re.compile(r"(?:0|[1-9]\d{0,2})\.(?:\d|\d[1-9])")
_RUNTIME = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_PLAN = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9._-]{0,62}")
_LABEL_VALUE = re.compile(r"[ -~]{0,255}")
_PATH = re.compile(r"(?:~/|/)[^\x00-\x1f]{1,1000}")
_MEMORY_CEILING_MIB = 1 << 20
_SWAP_CEILING_MIB = 1 << 24
#: A value that the machine itself decides about.
_AUTO = "auto"
_PIDS = range(64, 32769)


class SpecError(ValueError):
    """A specification cannot be used; the message is one sentence that names the value and what to change."""


class Configuration(Protocol):
    """What is read from: `pulumi.Config`, or anything that looks values up alike."""

    def get(self, key: str) -> str | None:
        """The value of a key, without the project's name; None where it is unset."""


def is_instance_id(text: str) -> bool:
    """Whether the text names an instance: `u-` and 10 lower-case letters or digits."""
    return _INSTANCE_ID.fullmatch(text) is not None


def is_digest(image: str) -> bool:
    """Whether the image is told by its content: `sha256:…` or `name@sha256:…`."""
    return _DIGEST.fullmatch(image) is not None


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One person's instance: limits, image, address; nothing of the person, no secret."""

    #: Names the stack, the container, the volume and the state folder.
    id: str
    address: IPv4Address
    #: Docker network that the host's stack declared.
    network: str
    #: `sha256:…` image id or `name@sha256:…`.
    image: str
    memory_mib: int = 2048
    #: Memory and swap together. At least twice the memory, else a sleeping instance cannot leave memory.
    swap_mib: int = 6144
    #: Decimal number of processors, written with one or two decimals.
    cpus: str = "2.0"
    #: Processes and threads.
    pids: int = 512
    #: OCI runtime.
    runtime: str = "runc"
    plan: str = "standard"
    #: Further labels of the container.
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        _match(_INSTANCE_ID, "id", self.id, "`u-` and 10 lower-case letters or digits")
        _match(_NETWORK, "network", self.network, "a network's name in lower-case letters, digits and hyphens")
        _match(_DIGEST, "image", self.image, "sha256:… or name@sha256:…, so that it cannot change under a stack")
        _match(_CPUS, "cpus", self.cpus, 'a number with one or two decimals, for example "2.0"')
        _match(_RUNTIME, "runtime", self.runtime, "an OCI runtime that Docker knows, for example runc")
        _match(_PLAN, "plan", self.plan, "a plan's name in lower-case letters, digits and hyphens")
        if float(self.cpus) == 0:
            raise SpecError("cpus is 0.0; give the instance at least 0.1.")
        if not self.address.is_private or self.address.is_loopback or self.address.is_link_local:
            raise SpecError(f"address is {self.address}; give a private address of the bridge's subnet.")
        if not MEMORY_FLOOR_MIB <= self.memory_mib <= _MEMORY_CEILING_MIB:
            raise SpecError(
                f"memory_mib is {self.memory_mib}; a gateway needs at least {MEMORY_FLOOR_MIB}, "
                f"and {_MEMORY_CEILING_MIB} is the most."
            )
        if not 2 * self.memory_mib <= self.swap_mib <= 2 * _MEMORY_CEILING_MIB:
            raise SpecError(
                f"swap_mib is {self.swap_mib}; it counts memory and swap together "
                f"and must be at least twice memory_mib, which is {self.memory_mib}."
            )
        if self.pids not in _PIDS:
            raise SpecError(f"pids is {self.pids}; give a number from {_PIDS.start} to {_PIDS.stop - 1}.")
        for key, value in self.labels.items():
            _match(_LABEL_KEY, "labels", key, "keys in lower-case letters, digits, dots, underscores and hyphens")
            _match(_LABEL_VALUE, f"labels.{key}", value, "up to 255 printable ASCII characters")
            if key in RESERVED_LABELS:
                raise SpecError(f"labels has {key}, which Zaki sets itself; leave it out.")

    @classmethod
    def from_config(cls, config: Configuration) -> InstanceSpec:
        """Read the specification; what has a default may be left out.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        values = _Values(config)
        return cls(
            id=values.text("id"),
            address=values.address("address"),
            network=values.text("network"),
            image=values.text("image"),
            memory_mib=values.integer("memory_mib", 2048),
            swap_mib=values.integer("swap_mib", 6144),
            cpus=values.text("cpus", "2.0"),
            pids=values.integer("pids", 512),
            runtime=values.text("runtime", "runc"),
            plan=values.text("plan", "standard"),
            labels=values.mapping("labels"),
        )

    def to_config(self) -> dict[str, str]:
        """Every value under its qualified key, for example `zaki:memory_mib`; `from_config` reads it back."""
        return _qualified(
            id=self.id,
            address=str(self.address),
            network=self.network,
            image=self.image,
            memory_mib=str(self.memory_mib),
            swap_mib=str(self.swap_mib),
            cpus=self.cpus,
            pids=str(self.pids),
            runtime=self.runtime,
            plan=self.plan,
            labels=json.dumps(dict(self.labels), sort_keys=True),
        )


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host, as far as instances need one: bridge, image, swap, and the file that tells the services of it."""

    #: A reference such as `zaki/openclaw:2026.9.6` that Docker has locally, or a digest, which is pulled if need be.
    image: str
    #: Where the services read about this host: an absolute path, or one below `~/`.
    host_file: str
    network: str = "zaki0"
    #: Name of the bridge's device.
    bridge: str = "zaki0"
    subnet: IPv4Network = field(default=IPv4Network("10.86.0.0/16"))
    #: From which Docker itself may give addresses; None: the last part of the subnet, 10.86.255.0/24 by default.
    docker_range: IPv4Network | None = None
    runtime: str = "runc"
    #: Swap that the machine has at least; 0 leaves it as it is, None is as much as it has memory, if it lets us.
    host_swap_mib: int | None = None

    def __post_init__(self) -> None:
        if self.docker_range is None and self.subnet.prefixlen <= 24:
            object.__setattr__(self, "docker_range", _last_part(self.subnet))
        _match(_NETWORK, "network", self.network, "a network's name in lower-case letters, digits and hyphens")
        _match(_DEVICE, "bridge", self.bridge, "a device's name: up to 15 lower-case letters, digits and hyphens")
        _match(_RUNTIME, "runtime", self.runtime, "an OCI runtime that Docker knows, for example runc")
        _match(_PATH, "host_file", self.host_file, "an absolute path, or one that starts with ~/")
        if not is_digest(self.image):
            _match(_REFERENCE, "image", self.image, "an image's reference, for example zaki/openclaw:2026.9.6")
        if not self.subnet.is_private or not 8 <= self.subnet.prefixlen <= 24:
            raise SpecError(f"subnet is {self.subnet}; give a private IPv4 network of /8 to /24.")
        if self.docker_range is None or not self.docker_range.subnet_of(self.subnet):
            raise SpecError(f"docker_range is {self.docker_range}; give a part of the subnet {self.subnet}.")
        if self.gateway in self.docker_range:
            raise SpecError(f"docker_range is {self.docker_range}; it must leave the gateway {self.gateway} out.")
        if self.host_swap_mib is not None and not 0 <= self.host_swap_mib <= _SWAP_CEILING_MIB:
            raise SpecError(
                f"host_swap_mib is {self.host_swap_mib}; give a number up to {_SWAP_CEILING_MIB}, "
                f"0 to leave the machine's swap alone, or {_AUTO}."
            )

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address on the bridge: the subnet's first."""
        return self.subnet.network_address + 1

    @property
    def docker_part(self) -> IPv4Network:
        """`docker_range` with its default filled in."""
        return self.docker_range or _last_part(self.subnet)

    @classmethod
    def from_config(cls, config: Configuration) -> HostSpec:
        """Read the specification; what has a default may be left out.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        values = _Values(config)
        return cls(
            image=values.text("image"),
            host_file=values.text("host_file"),
            network=values.text("network", "zaki0"),
            bridge=values.text("bridge", "zaki0"),
            subnet=values.network("subnet") or IPv4Network("10.86.0.0/16"),
            docker_range=values.network("docker_range"),
            runtime=values.text("runtime", "runc"),
            host_swap_mib=None if values.text("host_swap_mib", _AUTO) == _AUTO else values.integer("host_swap_mib", 0),
        )

    def to_config(self) -> dict[str, str]:
        """Every value under its qualified key, for example `zaki:subnet`; `from_config` reads it back."""
        return _qualified(
            image=self.image,
            host_file=self.host_file,
            network=self.network,
            bridge=self.bridge,
            subnet=str(self.subnet),
            docker_range=str(self.docker_part),
            runtime=self.runtime,
            host_swap_mib=_AUTO if self.host_swap_mib is None else str(self.host_swap_mib),
        )


class _Values:
    """Looks values up and turns them into their types; every failure is a sentence that names the key."""

    def __init__(self, config: Configuration) -> None:
        self._config = config

    def text(self, key: str, default: str | None = None) -> str:
        value = self._config.get(key)
        if value is None:
            value = default
        if value is None:
            raise SpecError(f"{PROJECT}:{key} is unset; set it in the stack's configuration.")
        return value

    def integer(self, key: str, default: int) -> int:
        text = self.text(key, str(default))
        if not re.fullmatch(r"\d{1,9}", text):
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give a whole number.")
        return int(text)

    def address(self, key: str) -> IPv4Address:
        text = self.text(key)
        try:
            return IPv4Address(text)
        except ValueError:
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give an IPv4 address.") from None

    def network(self, key: str) -> IPv4Network | None:
        text = self._config.get(key)
        if text is None:
            return None
        try:
            return IPv4Network(text)
        except ValueError:
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give an IPv4 network, for example 10.86.0.0/16.") from None

    def mapping(self, key: str) -> dict[str, str]:
        text = self.text(key, "{}")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise SpecError(f'{PROJECT}:{key} is {text!r}; give a JSON object of texts, for example {{"a": "b"}}.')
        return found


def _match(pattern: re.Pattern[str], name: str, value: str, wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise SpecError(f"{name} is {value!r}; give {wanted}.")


def _last_part(subnet: IPv4Network) -> IPv4Network:
    """The last 256th of a subnet, and never less than a /28."""
    prefix = min(subnet.prefixlen + 8, 28)
    return IPv4Network((int(subnet.broadcast_address) - (1 << (32 - prefix)) + 1, prefix))


def _qualified(**values: str) -> dict[str, str]:
    return {f"{PROJECT}:{key}": value for key, value in values.items()}
