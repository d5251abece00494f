"""The bridge that instances live on: no traffic between them, Docker's own addresses kept apart from ours."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pulumi
import pulumi_docker as docker

from infra.spec import HOST_LABEL, STACK_LABEL, HostSpec
from infra.steps import Steps


def declare_bridge(spec: HostSpec, opts: pulumi.ResourceOptions) -> docker.Network:
    """Declare the Docker network of a host."""
    return docker.Network(
        spec.network,
        name=spec.network,
        driver="bridge",
        options={
            "com.docker.network.bridge.name": spec.bridge,
            "com.docker.network.bridge.enable_icc": "false",
        },
        ipam_configs=[
            docker.NetworkIpamConfigArgs(
                subnet=str(spec.subnet), gateway=str(spec.gateway), ip_range=str(spec.docker_part)
            )
        ],
        labels=[
            docker.NetworkLabelArgs(label=STACK_LABEL, value=pulumi.get_stack()),
            docker.NetworkLabelArgs(label=HOST_LABEL, value=spec.host_file),
        ],
        opts=opts,
    )


def declare_bridge_there(
    spec: HostSpec, steps: Steps, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource]
) -> pulumi.Resource:
    """Declare the same network on a host behind SSH, where Docker may be on its way only."""
    labels = {STACK_LABEL: pulumi.get_stack(), HOST_LABEL: spec.host_file}
    return steps.run(
        "network",
        render_bridge_do(spec, labels),
        undo=render_bridge_undo(spec, labels),
        check=render_bridge_check(spec),
        parent=parent,
        depends_on=depends_on,
    )


def render_bridge_do(spec: HostSpec, labels: dict[str, str]) -> str:
    """Make the network, unless it is there; one that differs is somebody else's and stays."""
    create = [
        *("docker", "network", "create", "--driver", "bridge", "--subnet", str(spec.subnet)),
        *("--gateway", str(spec.gateway), "--ip-range", str(spec.docker_part)),
        *("--opt", f"com.docker.network.bridge.name={spec.bridge}"),
        *("--opt", "com.docker.network.bridge.enable_icc=false"),
        *(part for key, value in labels.items() for part in ("--label", f"{key}={value}")),
        spec.network,
    ]
    refusal = (
        f"The network {spec.network} on this host is not as Zaki declares it: "
        "remove it with `docker network rm` there, or name another one in zaki:network."
    )
    return f"""\
{_found(spec)}
if [[ -z $found ]]; then
  {shlex.join(create)}
elif [[ $found != "$wanted" ]]; then
  fail {shlex.quote(refusal)}
fi
"""


def render_bridge_undo(spec: HostSpec, labels: dict[str, str]) -> str:
    """Remove the network if it carries our labels."""
    ours = " ".join(f"--filter {shlex.quote(f'label={key}={value}')}" for key, value in labels.items())
    return f"""\
for id in $(docker network ls --quiet --no-trunc --filter {shlex.quote(f"name=^{spec.network}$")} {ours}); do
  docker network rm "$id"
done
"""


def render_bridge_check(spec: HostSpec) -> str:
    """Say whether the network is gone or another one."""
    return f"""\
{_found(spec)}
[[ $found == "$wanted" ]] || echo "the network {spec.network} is gone or another one"
"""


def _found(spec: HostSpec) -> str:
    """Sets `found` to what the network is, empty where there is none, and `wanted` to what it should be."""
    form = (
        '{{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{index .Options "com.docker.network.bridge.name"}} '
        '{{index .Options "com.docker.network.bridge.enable_icc"}}'
    )
    return f"""\
wanted={shlex.quote(f"bridge {spec.subnet} {spec.bridge} false")}
found=$(docker network inspect --format {shlex.quote(form)} {spec.network} 2>/dev/null || true)"""
