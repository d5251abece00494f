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

from infra.configuration import NONE, PROJECT, Configuration, SpecError, Values
from infra.disk import Disk, is_folder
from infra.target import Target

#: Where the disks of instances are, unless a host says otherwise.
VOLUMES = "/var/lib/zaki/volumes"
#: Where the services of a host behind SSH read about it, unless its stack says otherwise.
HOST_FILE = "/etc/zaki/host.json"
#: An OpenClaw gateway is killed by its own first turn below this.
MEMORY_FLOOR_MIB = 1280

#: The first port of the gateway at which the proxy of instances listens.
PROXY_PORT = 3128

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
#: A name, or with a dot before it that name and all below it; no address, for its last part is no number.
_DOMAIN = re.compile(r"\.?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_URL = re.compile(r"http://[0-9.]{7,15}:\d{1,5}(?:/[a-z]{1,32})?")
_ENDPOINT = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}:\d{1,5}")
_MEMORY_CEILING_MIB = 1 << 20
#: What a file system itself needs leaves little of a smaller one.
_DISK_FLOOR_MIB = 64
_DISK_CEILING_MIB = 1 << 24
_INODES_FLOOR = 1000
#: So many take half of the disk for themselves.
_INODES_EACH_MIB = 2048
_SWAP_CEILING_MIB = 1 << 24
#: A value that the machine itself decides about.
_AUTO = "auto"
#: Where nobody can mount anything: volumes without a limit.
_PIDS = range(64, 32769)


def skills_environment(url: str) -> dict[str, str]:
    """What leads ClawHub's clients to the registry: OpenClaw's own, npm's `clawhub`, and our install policy."""
    return {
        "OPENCLAW_CLAWHUB_URL": url,
        "CLAWHUB_REGISTRY": url,
        # Else skills that are backed by GitHub would be fetched past the registry.
        "CLAWHUB_GITHUB_CODELOAD_BASE_URL": f"{url}/codeload",
        "ZAKI_SKILLS": url,
    }


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
    #: Size of its disk, and how many files, folders and links fit there. A disk grows and never shrinks.
    disk_mib: int = 2048
    inodes: int = 200_000
    #: Folder on the host with the disks of instances; None: a plain Docker volume, without a limit.
    volumes: str | None = None
    #: OCI runtime.
    runtime: str = "runc"
    plan: str = "standard"
    #: Whom it asks for names; None: whom Docker asks.
    resolver: IPv4Address | None = None
    #: `address:port` of the proxy that it must use; None: it needs none.
    proxy: str | None = None
    #: URL of the registry of skills; None: it has none.
    skills: str | None = None
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
        if not _DISK_FLOOR_MIB <= self.disk_mib <= _DISK_CEILING_MIB:
            raise SpecError(
                f"disk_mib is {self.disk_mib}; give a number from {_DISK_FLOOR_MIB} to {_DISK_CEILING_MIB}."
            )
        if not _INODES_FLOOR <= self.inodes <= _INODES_EACH_MIB * self.disk_mib:
            raise SpecError(
                f"inodes is {self.inodes}; give a number from {_INODES_FLOOR} to {_INODES_EACH_MIB * self.disk_mib}, "
                f"which take half of a disk of {self.disk_mib} MiB."
            )
        _match_folder("volumes", self.volumes)
        if self.proxy is not None:
            _match(_ENDPOINT, "proxy", self.proxy, "an address and a port, for example 10.86.0.1:3128")
        if self.skills is not None:
            _match(_URL, "skills", self.skills, "a URL of the gateway's, for example http://10.86.0.1:8081/skills")
        for key, value in self.labels.items():
            _match(_LABEL_KEY, "labels", key, "keys in lower-case letters, digits, dots, underscores and hyphens")
            _match(_LABEL_VALUE, f"labels.{key}", value, "up to 255 printable ASCII characters")
            if key in RESERVED_LABELS:
                raise SpecError(f"labels has {key}, which Zaki sets itself; leave it out.")

    @property
    def disk(self) -> Disk | None:
        """Its disk; None where its volume is a plain one."""
        return Disk(self.id, self.volumes, self.disk_mib, self.inodes) if self.volumes is not None else None

    @property
    def environment(self) -> tuple[str, ...]:
        """What its environment says, `NAME=value` each."""
        skills = skills_environment(self.skills) if self.skills is not None else {}
        own = (*ENVIRONMENT, *(f"{name}={value}" for name, value in skills.items()))
        if self.proxy is None:
            return own
        # The proxy stands on the gateway, as Zaki itself does, which must see the instance's own address.
        direct = f"{self.proxy.rpartition(':')[0]},127.0.0.1,localhost"
        proxies = {"HTTP_PROXY": f"http://{self.proxy}", "HTTPS_PROXY": f"http://{self.proxy}", "NO_PROXY": direct}
        both = (f"{name}={value}" for key, value in proxies.items() for name in (key, key.lower()))
        return (*own, "NODE_USE_ENV_PROXY=1", *both)

    @classmethod
    def from_config(cls, config: Configuration) -> InstanceSpec:
        """Read the specification; what has a default may be left out.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        values = Values(config)
        return cls(
            id=values.text("id"),
            address=values.address("address"),
            network=values.text("network"),
            image=values.text("image"),
            memory_mib=values.integer("memory_mib", 2048),
            swap_mib=values.integer("swap_mib", 6144),
            cpus=values.text("cpus", "2.0"),
            pids=values.integer("pids", 512),
            disk_mib=values.integer("disk_mib", 2048),
            inodes=values.integer("inodes", 200_000),
            volumes=values.folder("volumes", NONE),
            runtime=values.text("runtime", "runc"),
            plan=values.text("plan", "standard"),
            resolver=values.address("resolver") if config.get("resolver") is not None else None,
            proxy=config.get("proxy"),
            skills=config.get("skills"),
            labels=values.mapping("labels"),
        )

    def to_config(self) -> dict[str, str]:
        """Every value under its qualified key, for example `zaki:memory_mib`; `from_config` reads it back."""
        network = {} if self.resolver is None else {"resolver": str(self.resolver)}
        if self.proxy is not None:
            network["proxy"] = self.proxy
        if self.skills is not None:
            network["skills"] = self.skills
        return _qualified(
            **network,
            id=self.id,
            address=str(self.address),
            network=self.network,
            image=self.image,
            memory_mib=str(self.memory_mib),
            swap_mib=str(self.swap_mib),
            cpus=self.cpus,
            pids=str(self.pids),
            disk_mib=str(self.disk_mib),
            inodes=str(self.inodes),
            volumes=NONE if self.volumes is None else self.volumes,
            runtime=self.runtime,
            plan=self.plan,
            labels=json.dumps(dict(self.labels), sort_keys=True),
        )


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host, as far as instances need one: bridge, image, swap, disks, and the file that tells the services of it."""

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
    #: The machine that becomes the host, behind SSH; None: this one.
    target: Target | None = None
    #: Whether the machine itself is made ready for instances: Docker Engine, SSH, updates. One behind SSH always is.
    harden: bool = False
    #: Folder for the disks of instances, root's alone; None: their volumes are plain ones, without a limit.
    volumes: str | None = VOLUMES
    #: Whether the host gets the firewall of instances, with the proxy and the resolver that their policies need.
    firewall: bool = False
    #: By plan: the names that its instances reach under the policy `list`, one that begins with a dot with all below.
    egress_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Whom the resolver of instances asks; none: the servers of the names themselves.
    forwarders: tuple[IPv4Address, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "egress_lists", MappingProxyType(dict(self.egress_lists)))
        for plan, names in self.egress_lists.items():
            _match(_PLAN, "egress_lists", plan, "plans' names in lower-case letters, digits and hyphens")
            if not names:
                raise SpecError(f"egress_lists.{plan} names nobody; name a domain, or leave the plan out.")
            for name in names:
                _match(_DOMAIN, f"egress_lists.{plan}", name, "names such as api.example.org, or .example.org for all")
        if not self.firewall and self.target is None and (self.egress_lists or self.forwarders):
            raise SpecError("egress_lists and forwarders need the firewall; set zaki:firewall to true.")
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
        _match_folder("volumes", self.volumes)
        if self.host_swap_mib is not None and not 0 <= self.host_swap_mib <= _SWAP_CEILING_MIB:
            raise SpecError(
                f"host_swap_mib is {self.host_swap_mib}; give a number up to {_SWAP_CEILING_MIB}, "
                f"0 to leave the machine's swap alone, or {_AUTO}."
            )
        if self.target is not None:
            object.__setattr__(self, "harden", True)
            object.__setattr__(self, "firewall", True)
            if not self.host_file.startswith("/"):
                raise SpecError(f"host_file is {self.host_file}; on a host behind SSH give an absolute path.")

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address on the bridge: the subnet's first."""
        return self.subnet.network_address + 1

    @property
    def proxy_ports(self) -> dict[str, int]:
        """By plan: the gateway's port at which the proxy lets its instances reach the names of their list."""
        return {plan: PROXY_PORT + index for index, plan in enumerate(sorted(self.egress_lists))}

    @property
    def docker_part(self) -> IPv4Network:
        """`docker_range` with its default filled in."""
        return self.docker_range or _last_part(self.subnet)

    @classmethod
    def from_config(cls, config: Configuration, image: str | None = None) -> HostSpec:
        """Read the specification; what has a default may be left out, the image where `image` is one.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        values = Values(config)
        target = Target.from_config(config)
        return cls(
            image=values.text("image", image),
            host_file=values.text("host_file", None if target is None else HOST_FILE),
            network=values.text("network", "zaki0"),
            bridge=values.text("bridge", "zaki0"),
            subnet=values.network("subnet") or IPv4Network("10.86.0.0/16"),
            docker_range=values.network("docker_range"),
            runtime=values.text("runtime", "runc"),
            host_swap_mib=None if values.text("host_swap_mib", _AUTO) == _AUTO else values.integer("host_swap_mib", 0),
            target=target,
            harden=values.boolean("host_harden"),
            volumes=values.folder("volumes", VOLUMES),
            firewall=values.boolean("firewall"),
            egress_lists={plan: tuple(names.split()) for plan, names in values.mapping("egress_lists").items()},
            forwarders=values.addresses("forwarders"),
        )

    def to_config(self) -> dict[str, str]:
        """Every value under its qualified key, for example `zaki:subnet`; `from_config` reads it back."""
        return (
            _qualified(
                image=self.image,
                host_file=self.host_file,
                network=self.network,
                bridge=self.bridge,
                subnet=str(self.subnet),
                docker_range=str(self.docker_part),
                runtime=self.runtime,
                host_swap_mib=_AUTO if self.host_swap_mib is None else str(self.host_swap_mib),
                volumes=NONE if self.volumes is None else self.volumes,
            )
            | self._firewall_config()
            | self._machine_config()
        )

    def _machine_config(self) -> dict[str, str]:
        if self.target is not None:
            return self.target.to_config()
        return {f"{PROJECT}:host_harden": "true"} if self.harden else {}

    def _firewall_config(self) -> dict[str, str]:
        if not self.firewall:
            return {}
        lists = {plan: " ".join(names) for plan, names in self.egress_lists.items()}
        return _qualified(
            firewall="true",
            egress_lists=json.dumps(lists, sort_keys=True),
            forwarders=" ".join(map(str, self.forwarders)),
        )


def _match(pattern: re.Pattern[str], name: str, value: str, wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise SpecError(f"{name} is {value!r}; give {wanted}.")


def _match_folder(name: str, value: str | None) -> None:
    if value is not None and not is_folder(value):
        raise SpecError(f"{name} is {value!r}; give an absolute path without `..`, or {NONE}.")


def _last_part(subnet: IPv4Network) -> IPv4Network:
    """The last 256th of a subnet, and never less than a /28."""
    prefix = min(subnet.prefixlen + 8, 28)
    return IPv4Network((int(subnet.broadcast_address) - (1 << (32 - prefix)) + 1, prefix))


def _qualified(**values: str) -> dict[str, str]:
    return {f"{PROJECT}:{key}": value for key, value in values.items()}
