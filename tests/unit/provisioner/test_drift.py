"""What a hand has changed at a container is named in a sentence, and what nobody changed is not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from bot.provisioner.containers import Observed
from bot.provisioner.drift import drift
from bot.provisioner.shape import Shape
from bot.store.tables import ContainerState
from infra.spec import ENVIRONMENT, InstanceSpec

SPEC = InstanceSpec(
    id="u-aaaaaaaaaa",
    address=IPv4Address("10.86.0.7"),
    network="zaki0",
    image="sha256:" + "1" * 64,
    labels={"zaki.pool": "1"},
)
MIB = 1 << 20

#: As the daemon answers for a container that Pulumi has made of `SPEC`.
INSPECTED: dict[str, Any] = {
    "Image": SPEC.image,
    "Config": {
        "Image": SPEC.image,
        "User": "1000:1000",
        "Labels": {
            "zaki.instance": SPEC.id,
            "zaki.stack": SPEC.id,
            "zaki.plan": "standard",
            "zaki.pids": "512",
            "zaki.pool": "1",
            "org.opencontainers.image.title": "of the image",
        },
        "Env": [*ENVIRONMENT, "PATH=/usr/bin"],
    },
    "HostConfig": {
        "Memory": 2048 * MIB,
        "MemorySwap": 6144 * MIB,
        "NanoCpus": 2_000_000_000,
        "PidsLimit": 512,
        "NetworkMode": "default",
        "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108
        "Runtime": "runc",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "ReadonlyRootfs": True,
        "Init": True,
        "Privileged": False,
        "CapAdd": None,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidMode": "",
        "IpcMode": "private",
        "UsernsMode": "",
        "Devices": [],
        "PortBindings": None,
    },
    "NetworkSettings": {"Networks": {"zaki0": {"IPAMConfig": {"IPv4Address": "10.86.0.7"}}}},
    "Mounts": [{"Type": "volume", "Name": SPEC.id, "Source": "/var/lib/x", "Destination": "/home/node"}],
}
SHAPE = Shape.of(INSPECTED)


def seen(shape: Shape | None, state: ContainerState = ContainerState.RUNNING) -> Observed:
    return Observed(state, SPEC.image, "10.86.0.7", 0, oom_killed=False, shape=shape)


@pytest.mark.parametrize("state", list(ContainerState))
def test_what_is_as_declared_is_no_drift(state: ContainerState) -> None:
    assert drift(seen(SHAPE, state), SPEC) is None


def test_what_is_not_known_is_no_drift() -> None:
    assert drift(seen(None), SPEC) is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"memory": 4096 * MIB}, "Its limit of memory is 4096 MiB, not 2048 MiB."),
        ({"memory": 0}, "Its limit of memory is gone, not 2048 MiB."),
        ({"memory_and_swap": -1}, "Its limit of memory and swap is gone, not 6144 MiB."),
        ({"nano_cpus": 500_000_000}, "Its limit of processors is 0.5, not 2.0."),
        ({"nano_cpus": 0}, "Its limit of processors is gone, not 2.0."),
        ({"cpu_shares": 100}, "Its share of the processors is 100, not the default."),
        ({"pids": 0}, "Its limit of processes is gone, not 512."),
        ({"networks": {}}, "It is not on the network zaki0 any more."),
        ({"networks": {"zaki0": None}}, "Its address is not fixed, not 10.86.0.7."),
        ({"networks": {"zaki0": "10.86.0.9"}}, "Its address is 10.86.0.9, not 10.86.0.7."),
        ({"networks": {"zaki0": "10.86.0.7", "bridge": None}}, "It is on the network bridge besides its own."),
        ({"ports": 1}, "It publishes a port of the host."),
        (
            {"image": "sha256:2", "image_name": "zaki/openclaw:1"},
            f"It runs the image zaki/openclaw:1, not {SPEC.image}.",
        ),
        ({"user": ""}, "It runs as the user root, not 1000:1000."),
        ({"mounts": frozenset()}, f"The volume {SPEC.id} is not mounted at /home/node."),
        ({"mounts": SHAPE.mounts | {("bind", "/", "/host")}}, "The bind / is mounted at /host."),
        ({"privileged": True}, "It is privileged."),
        ({"read_only": False}, "Its root file system can be written to."),
        ({"dropped_capabilities": frozenset()}, "Not all of its capabilities are dropped."),
        ({"added_capabilities": frozenset({"CAP_SYS_ADMIN"})}, "It has capabilities that no instance has."),
        ({"security_options": frozenset()}, "It may gain new privileges."),
        ({"security_options": SHAPE.security_options | {"seccomp=unconfined"}}, "It has security options that no"),
        ({"host_namespaces": frozenset({"process"})}, "It shares a namespace of the host."),
        ({"devices": 1}, "It has devices of the host."),
        ({"restart": "always"}, "Docker restarts it by itself."),
        ({"init": False}, "It has no init process."),
        ({"tmpfs": {}}, "Its temporary files are not kept as declared."),
        ({"runtime": "runsc"}, "Its runtime is runsc, not runc."),
        ({"labels": {**SHAPE.labels, "zaki.plan": "large"}}, "Its label zaki.plan is large, not standard."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_was_changed_is_named(changes: dict[str, Any], sentence: str) -> None:
    said = drift(seen(replace(SHAPE, **changes)), SPEC)
    assert said is not None
    assert said.startswith(sentence)


def test_the_limit_of_processes_counts_once_it_runs() -> None:
    bare = replace(SHAPE, pids=0)
    assert drift(seen(bare, ContainerState.CREATED), SPEC) is None
    assert drift(seen(bare, ContainerState.PAUSED), SPEC) is not None


def test_a_newer_programs_environment_waits_for_the_next_start() -> None:
    older = replace(SHAPE, environment=SHAPE.environment - {"OPENCLAW_NO_RESPAWN=1"})
    assert drift(seen(older, ContainerState.RUNNING), SPEC) is None
    assert drift(seen(older, ContainerState.PAUSED), SPEC) is None
    assert drift(seen(older, ContainerState.EXITED), SPEC) == "Its environment lacks OPENCLAW_NO_RESPAWN."


def test_an_image_may_be_named_by_its_repositorys_digest() -> None:
    name = "ghcr.example/openclaw@sha256:" + "3" * 64
    named = replace(SHAPE, image="sha256:4", image_name=name)
    assert drift(seen(named), replace(SPEC, image=name)) is None


def test_processors_may_be_limited_by_a_quota() -> None:
    host = {**INSPECTED["HostConfig"], "NanoCpus": 0, "CpuQuota": 200_000, "CpuPeriod": 100_000}
    assert drift(seen(Shape.of({**INSPECTED, "HostConfig": host})), SPEC) is None


def test_namespaces_of_the_host_are_seen() -> None:
    host = {**INSPECTED["HostConfig"], "IpcMode": "host"}
    assert drift(seen(Shape.of({**INSPECTED, "HostConfig": host})), SPEC) == "It shares a namespace of the host."
