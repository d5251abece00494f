"""What no stack may do: every rule refuses, in plain sight and hidden in an Output, and the real program passes."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_docker as docker
import pytest

from infra import checks
from infra.checks import CONTAINER, NETWORK, VOLUME, PolicyViolation, check, is_refusal

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

STACK = "u-0123456789"
IMAGE = "sha256:" + "c" * 64

#: A container as the program declares it, by Python's names.
GOOD: dict[str, Any] = {
    "name": STACK,
    "image": IMAGE,
    "start": False,
    "must_run": False,
    "restart": "no",
    "networks_advanced": [{"name": "zaki0", "ipv4_address": "10.86.0.2"}],
    "capabilities": {"drops": ["ALL"]},
    "security_opts": ["no-new-privileges"],
    "user": "1000:1000",
    "read_only": True,
    "volumes": [{"volume_name": STACK, "container_path": "/home/node"}],
    "memory": 2048,
    "memory_swap": 6144,
    "cpus": "2.0",
    "labels": [{"label": "zaki.instance", "value": STACK}, {"label": "zaki.pids", "value": "512"}],
    "log_driver": "local",
    "log_opts": {"max-size": "10m"},
}

FORBIDDEN: dict[str, dict[str, Any]] = {
    "asks for privileged mode": {"privileged": True},
    "asks for published ports": {"ports": [{"internal": 22, "external": 22}]},
    "asks for published ports (all)": {"publish_all_ports": True},
    "asks for devices of the host": {"devices": [{"host_path": "/dev/sda"}]},
    "asks for devices of the host (gpus)": {"gpus": "all"},
    "asks for devices of the host (rules)": {"device_cgroup_rules": ["a *:* rwm"]},
    "asks for a network mode of its own": {"network_mode": "host"},
    "asks for another namespace of processes": {"pid_mode": "host"},
    "asks for another namespace of users": {"userns_mode": "host"},
    "asks for another control group": {"cgroup_parent": "/"},
    "asks for another IPC namespace": {"ipc_mode": "host"},
    "asks for another cgroup namespace": {"cgroupns_mode": "host"},
    "asks for kernel settings": {"sysctls": {"net.ipv4.ip_forward": "1"}},
    "asks for further groups": {"group_adds": ["docker"]},
    "asks for names of hosts": {"hosts": [{"host": "a", "ip": "10.0.0.1"}]},
    "asks for mounts besides its own volume": {"mounts": [{"type": "bind", "target": "/x", "source": "/"}]},
    "asks for files of the host": {"uploads": [{"file": "/x", "source": "/etc/shadow"}]},
    "asks to be started by Pulumi": {"must_run": True},
    "asks to be restarted by Docker": {"restart": "always"},
    "asks to be restarted by Docker (unset)": {"restart": None},
    "adds capabilities": {"capabilities": {"drops": ["ALL"], "adds": ["CAP_SYS_ADMIN"]}},
    "keeps capabilities": {"capabilities": {"drops": ["CAP_CHOWN"]}},
    "keeps capabilities (all)": {"capabilities": None},
    "may gain new privileges": {"security_opts": []},
    "may gain new privileges (false)": {"security_opts": ["no-new-privileges:false"]},
    "turns a protection off": {"security_opts": ["no-new-privileges", "seccomp=unconfined"]},
    "turns a protection off (label)": {"security_opts": ["no-new-privileges", "label=disable"]},
    "runs as root": {"user": "root"},
    "runs as root (unset)": {"user": None},
    "runs as root (id)": {"user": "0:1000"},
    "has a root file system that can be written": {"read_only": False},
    "has no limit of memory": {"memory": None},
    "has no limit of memory (zero)": {"memory": 0},
    "has no limit of swap": {"memory_swap": -1},
    "has no limit of swap (unset)": {"memory_swap": None},
    "has no limit of processors": {"cpus": None},
    "has no limit of processors (words)": {"cpus": "all"},
    "has no limit of processes": {"labels": [{"label": "zaki.instance", "value": STACK}]},
    "has no limit of its log": {"log_opts": {"max-file": "3"}},
    "has an image without a digest": {"image": "zaki/openclaw:2026.9.6"},
    "has an image without a digest (unset)": {"image": None},
    "asks for more than one volume": {"volumes": [GOOD["volumes"][0], GOOD["volumes"][0]]},
    "asks for mounts besides its own volume (socket)": {
        "volumes": [{"host_path": "/var/run/docker.sock", "container_path": "/var/run/docker.sock"}]
    },
    "asks for mounts besides its own volume (another's)": {"volumes": [{"from_container": "u-9999999999"}]},
    "asks for a volume that is not its own": {"volumes": [{"volume_name": "u-9999999999", "container_path": "/x"}]},
    "has not exactly one network with a fixed address": {"networks_advanced": [{"name": "zaki0"}]},
    "has not exactly one network with a fixed address (none)": {"networks_advanced": []},
    "asks for the network host": {"networks_advanced": [{"name": "host", "ipv4_address": "10.86.0.2"}]},
    "has not the name of its stack": {"name": "u-9999999999", "volumes": []},
    "has not its owner's label": {"labels": [{"label": "zaki.pids", "value": "512"}]},
}


def _asked(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**copy.deepcopy(GOOD), **changes}.items() if value is not None}


def _wire(value: Any) -> Any:
    """The value as the engine sends it: names in camel case."""
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda part: part[1].upper(), key): _wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_wire(item) for item in value]
    return value


def test_what_the_program_declares_is_allowed() -> None:
    check(STACK, CONTAINER, STACK, GOOD)


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_container_is_refused(rule: str) -> None:
    complaint = rule.partition(" (")[0]
    with pytest.raises(PolicyViolation, match=f"^The container {STACK} {complaint}.*; no stack may do that\\.$"):
        check(STACK, CONTAINER, STACK, _asked(FORBIDDEN[rule]))


@pytest.mark.parametrize("rule", [rule for rule in FORBIDDEN if "owner" not in rule and "name of its" not in rule])
def test_host_may_not_do_it_either(rule: str) -> None:
    with pytest.raises(PolicyViolation):
        check("dev", CONTAINER, STACK, _asked(FORBIDDEN[rule]))


# The library itself refuses a container without an image.
@pytest.mark.parametrize("rule", [rule for rule in FORBIDDEN if rule != "has an image without a digest (unset)"])
def test_program_that_asks_in_plain_sight_is_stopped(rule: str, declare: Any) -> None:
    def program() -> None:
        checks.register()
        docker.Container(STACK, **_asked(FORBIDDEN[rule]))

    with pytest.raises(PolicyViolation, match=rule.partition(" (")[0]):
        declare(STACK, program, {})


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_what_an_output_hides_is_found_when_the_engine_asks(rule: str, declare: Any) -> None:
    [transform] = declare(STACK, checks.register, {}).transforms

    async def ask() -> None:
        # By the names of the wire, and with every value a secret Output.
        asked = {key: pulumi.Output.secret(value) for key, value in _wire(_asked(FORBIDDEN[rule])).items()}
        await transform(pulumi.ResourceTransformArgs(True, CONTAINER, STACK, asked, pulumi.ResourceOptions()))

    with pytest.raises(PolicyViolation, match=rule.partition(" (")[0]):
        asyncio.run(ask())


def test_output_that_hides_nothing_forbidden_passes(declare: Any) -> None:
    [transform] = declare(STACK, checks.register, {}).transforms

    async def ask() -> None:
        asked = {key: pulumi.Output.from_input(value) for key, value in _wire(GOOD).items()}
        await transform(pulumi.ResourceTransformArgs(True, CONTAINER, STACK, asked, pulumi.ResourceOptions()))

    asyncio.run(ask())


@pytest.mark.parametrize("kind", ["docker:index/plugin:Plugin", "docker:index/service:Service"])
@pytest.mark.parametrize("stack", [STACK, "dev"])
def test_ways_around_the_rules_are_closed(kind: str, stack: str) -> None:
    with pytest.raises(PolicyViolation, match="may not declare"):
        check(stack, kind, "x", {})


@pytest.mark.parametrize("kind", ["command:local:Command", "command:remote:Command", NETWORK, "x:y/z:New"])
def test_person_declares_nothing_but_their_own_instance(kind: str) -> None:
    with pytest.raises(PolicyViolation, match=f"x is a {kind}, which the stack {STACK} may not declare"):
        check(STACK, kind, "x", {"driver": "bridge", "options": {"com.docker.network.bridge.enable_icc": "false"}})


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"name": STACK, "driver_opts": {"type": "none", "o": "bind", "device": "/"}}, "asks for a mount of the host"),
        ({"name": STACK, "driver": "nfs"}, "asks for a driver"),
        ({"name": "u-9999999999"}, "has not the name of its stack"),
    ],
)
def test_volume_is_refused(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PolicyViolation, match=f"The volume v {complaint}"):
        check(STACK, VOLUME, "v", asked)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"driver": "host"}, "is no bridge"),
        ({"driver": "bridge"}, "lets containers reach each other"),
        ({"driver": "bridge", "options": {"com.docker.network.bridge.enable_icc": "true"}}, "reach each other"),
    ],
)
def test_network_is_refused(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PolicyViolation, match=complaint):
        check("dev", NETWORK, "n", asked)


def test_a_refusal_is_told_from_what_the_engine_prints() -> None:
    with pytest.raises(PolicyViolation) as refused:
        check("u-abcdefghij", "docker:index/plugin:Plugin", "root", {})
    assert is_refusal(str(refused.value))
    with pytest.raises(PolicyViolation) as refused:
        check("dev", CONTAINER, "naked", {"privileged": True})
    assert is_refusal(str(refused.value))
    assert not is_refusal("Docker did not create the container; try again.")
