"""The bridge that instances live on: no traffic between them, Docker's own addresses kept apart from ours."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from infra.spec import HOST_LABEL, STACK_LABEL, HostSpec


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
