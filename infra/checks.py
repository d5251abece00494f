"""What no stack may ever do.

Two guards read the same rules. The older one (a transformation) sees what the program wrote and refuses with one clean
sentence, but cannot look into an Output; the newer one (a transform) is asked by the engine once every Output has its
value. `main()` registers both before it declares anything.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import rpc

from infra.spec import INSTANCE_LABEL, PIDS_LABEL, is_digest, is_instance_id

CONTAINER = "docker:index/container:Container"
VOLUME = "docker:index/volume:Volume"
NETWORK = "docker:index/network:Network"

#: All that a person's stack may declare. Everything else, a command on the host too, is refused.
_OF_A_PERSON = frozenset({"pulumi:pulumi:Stack", "zaki:index:UserInstance", VOLUME, CONTAINER})
#: Ways around the rules for containers: a Docker plugin is root on the host, a service is a container by another name.
_NEVER = frozenset({"docker:index/plugin:Plugin", "docker:index/service:Service"})

_MUST_BE_OFF = {
    "privileged": "privileged mode",
    "publish_all_ports": "published ports",
    "ports": "published ports",
    "devices": "devices of the host",
    "device_cgroup_rules": "devices of the host",
    "device_requests": "devices of the host",
    "gpus": "devices of the host",
    "network_mode": "a network mode of its own",
    "pid_mode": "another namespace of processes",
    "userns_mode": "another namespace of users",
    "cgroup_parent": "another control group",
    "sysctls": "kernel settings",
    "group_adds": "further groups",
    "hosts": "names of hosts",
    "mounts": "mounts besides its own volume",
    "uploads": "files of the host",
}
_PRIVATE = {"ipc_mode": "another IPC namespace", "cgroupns_mode": "another cgroup namespace"}
_NO_NEW_PRIVILEGES = ("no-new-privileges", "no-new-privileges:true")
_ROOT = re.compile(r"(?:root|0+)(?::.*)?")


#: How the sentence of every refusal ends; the engine passes on the sentence, and not the exception.
_REFUSAL = re.compile(r"(?:; no stack may do that|may not declare)\.\Z")


class PolicyViolation(pulumi.RunError):
    """A resource asks for what no stack may do; the message is one sentence that names both."""


class _Hidden:
    """Stands for a value that is not known yet."""


_HIDDEN = _Hidden()


def is_refusal(diagnostic: str) -> bool:
    """Whether a line of the engine's diagnostics is the sentence of a :class:`PolicyViolation`."""
    return _REFUSAL.search(diagnostic) is not None


def register() -> None:
    """Guard every resource that the running program declares from now on."""
    stack = pulumi.get_stack()

    def refuse(args: pulumi.ResourceTransformationArgs) -> None:
        check(stack, args.type_, args.name, _plain(args.props))

    async def refuse_resolved(args: pulumi.ResourceTransformArgs) -> None:
        check(stack, args.type_, args.name, await _resolved(args.props))

    pulumi.runtime.register_stack_transformation(refuse)
    pulumi.runtime.register_resource_transform(refuse_resolved)


def check(stack: str, type_: str, name: str, properties: Mapping[str, Any]) -> None:
    """Check one resource.

    Args:
        stack: Name of the stack that declares it.
        type_: Pulumi's type token.
        name: Name of the resource.
        properties: Its inputs, by their names in Python.

    Raises:
        PolicyViolation: No stack, or not this one, may declare such a resource.
    """
    if type_ in _NEVER or (is_instance_id(stack) and type_ not in _OF_A_PERSON):
        raise PolicyViolation(f"{name} is a {type_}, which the stack {stack} may not declare.")
    rules = _RULES.get(type_)
    if rules is not None:
        for complaint in rules(stack, properties):
            raise PolicyViolation(f"The {type_.rpartition(':')[2].lower()} {name} {complaint}; no stack may do that.")


def _container(stack: str, asked: Mapping[str, Any]) -> Iterator[str]:
    for key, what in _MUST_BE_OFF.items():
        if _known(asked, key):
            yield f"asks for {what}"
    for key, what in _PRIVATE.items():
        if _known(asked, key) not in (None, "", "private", _HIDDEN):
            yield f"asks for {what}"
    yield from _privileges(asked)
    yield from _limits(asked)
    yield from _storage(asked)
    yield from _address(asked)
    if (image := asked.get("image")) is not _HIDDEN and not is_digest(str(image)):
        yield "has an image without a digest"
    if _known(asked, "must_run"):
        yield "asks to be started by Pulumi"
    if asked.get("restart") not in ("no", _HIDDEN):
        yield "asks to be restarted by Docker"
    if is_instance_id(stack):
        if asked.get("name") not in (stack, _HIDDEN):
            yield "has not the name of its stack"
        if _label(asked, INSTANCE_LABEL) not in (stack, _HIDDEN):
            yield f"has not its owner's label {INSTANCE_LABEL}"


def _privileges(asked: Mapping[str, Any]) -> Iterator[str]:
    capabilities = asked.get("capabilities")
    if capabilities is not _HIDDEN:
        dropped = _items(capabilities or {}, "drops")
        if _known(capabilities or {}, "adds"):
            yield "adds capabilities"
        if "ALL" not in dropped and _HIDDEN not in dropped:
            yield "keeps capabilities"
    options = _items(asked, "security_opts")
    if _HIDDEN not in options and not any(option in _NO_NEW_PRIVILEGES for option in options):
        yield "may gain new privileges"
    if any(re.search(r"unconfined|disable|:false$|=false$", str(option)) for option in options):
        yield "turns a protection off"
    user = asked.get("user")
    if user is not _HIDDEN and (not user or _ROOT.fullmatch(str(user))):
        yield "runs as root"
    if not asked.get("read_only"):
        yield "has a root file system that can be written"


def _limits(asked: Mapping[str, Any]) -> Iterator[str]:
    memory, swap, cpus = asked.get("memory"), asked.get("memory_swap"), asked.get("cpus")
    if memory is not _HIDDEN and _number(memory) <= 0:
        yield "has no limit of memory"
    if _HIDDEN not in (memory, swap) and _number(swap) < _number(memory):
        yield "has no limit of swap"
    if cpus is not _HIDDEN and _number(cpus) <= 0:
        yield "has no limit of processors"
    pids = _label(asked, PIDS_LABEL)
    if pids is not _HIDDEN and _number(pids) <= 0:
        yield "has no limit of processes"
    options = asked.get("log_opts")
    if options is not _HIDDEN and not (options or {}).get("max-size"):
        yield "has no limit of its log"


def _storage(asked: Mapping[str, Any]) -> Iterator[str]:
    volumes = _items(asked, "volumes")
    if len(volumes) > 1:
        yield "asks for more than one volume"
    for volume in volumes:
        if volume is _HIDDEN:
            continue
        if _known(volume, "host_path") or _known(volume, "from_container"):
            yield "asks for mounts besides its own volume"
        if volume.get("volume_name") is not _HIDDEN and volume.get("volume_name") != asked.get("name"):
            yield "asks for a volume that is not its own"


def _address(asked: Mapping[str, Any]) -> Iterator[str]:
    networks = _items(asked, "networks_advanced")
    if _HIDDEN in networks:
        return
    if len(networks) != 1 or not _known(networks[0], "ipv4_address"):
        yield "has not exactly one network with a fixed address"
    elif networks[0].get("name") in ("host", "none", "bridge"):
        yield f"asks for the network {networks[0]['name']}"


def _volume(stack: str, asked: Mapping[str, Any]) -> Iterator[str]:
    if asked.get("driver") not in (None, "local", _HIDDEN):
        yield "asks for a driver of its own"
    if _known(asked, "driver_opts"):
        yield "asks for a mount of the host"
    if is_instance_id(stack) and asked.get("name") not in (stack, _HIDDEN):
        yield "has not the name of its stack"


def _network(_stack: str, asked: Mapping[str, Any]) -> Iterator[str]:
    if asked.get("driver") not in ("bridge", _HIDDEN):
        yield "is no bridge"
    options = asked.get("options")
    if options is not _HIDDEN:
        between = (options or {}).get("com.docker.network.bridge.enable_icc")
        if between is not _HIDDEN and str(between) != "false":
            yield "lets containers reach each other"


_RULES: dict[str, Callable[[str, Mapping[str, Any]], Iterator[str]]] = {
    CONTAINER: _container,
    VOLUME: _volume,
    NETWORK: _network,
}


def _known(asked: Mapping[str, Any], key: str) -> Any:
    """The value, None where it is unset or not known yet."""
    value = asked.get(key)
    return None if value is _HIDDEN else value


def _items(asked: Mapping[str, Any], key: str) -> list[Any]:
    value = asked.get(key)
    return [_HIDDEN] if value is _HIDDEN else list(value or ())


def _label(asked: Mapping[str, Any], label: str) -> Any:
    for found in _items(asked, "labels"):
        if found is _HIDDEN:
            return _HIDDEN
        if found.get("label") == label:
            return found.get("value")
    return None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _plain(value: Any) -> Any:
    """The value by Python's names, without what an Output or a coroutine holds."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, pulumi.Output) or inspect.isawaitable(value):
        return _HIDDEN
    if isinstance(value, Mapping):
        return {_snake(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # An input type: its arguments are its attributes.
    return {_snake(key): _plain(item) for key, item in vars(value).items()}


async def _resolved(value: Any) -> Any:
    """The engine's value by Python's names; only what a preview cannot know yet stays hidden."""
    if isinstance(value, Unknown):
        return _HIDDEN
    if isinstance(value, pulumi.Output):
        return await _resolved(await value.future()) if await value.is_known() else _HIDDEN
    if rpc.is_rpc_secret(value):
        return await _resolved(rpc.unwrap_rpc_secret(value))
    if isinstance(value, Mapping):
        return {_snake(key): await _resolved(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [await _resolved(item) for item in value]
    return value


def _snake(key: Any) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), str(key))
