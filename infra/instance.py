"""One person's instance: its volume, and a container that is declared here and started by the provisioner."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from infra.spec import (
    ENVIRONMENT,
    HOME,
    INSTANCE_LABEL,
    NETWORK_LABEL,
    PIDS_LABEL,
    PLAN_LABEL,
    STACK_LABEL,
    TMPFS,
    USER,
    InstanceSpec,
)

#: Seconds between SIGTERM and SIGKILL where Pulumi removes or replaces a container that runs.
_STOP_GRACE = 20


class UserInstance(pulumi.ComponentResource):
    """A volume and a container of the same name, hardened as OpenClaw's own fleet hardens its cells, and further.

    The volume outlives every container: no `up` may replace or delete it, and only `destroy`, after the stack was
    unprotected, takes it away. Labels and processors replace the container, memory and swap change in place.
    """

    container: docker.Container
    volume: docker.Volume

    def __init__(self, spec: InstanceSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("zaki:index:UserInstance", spec.id, None, opts)
        owner = {INSTANCE_LABEL: spec.id, STACK_LABEL: pulumi.get_stack()}
        self.volume = docker.Volume(
            spec.id,
            name=spec.id,
            labels=[
                docker.VolumeLabelArgs(label=key, value=value)
                for key, value in {**owner, NETWORK_LABEL: spec.network}.items()
            ],
            # Every argument of a volume replaces it, data and all; so none may change once it is there.
            opts=pulumi.ResourceOptions(parent=self, protect=True, ignore_changes=["driver", "driverOpts", "labels"]),
        )
        labels = {**spec.labels, **owner, PLAN_LABEL: spec.plan, PIDS_LABEL: str(spec.pids)}
        self.container = docker.Container(
            spec.id,
            name=spec.id,
            image=spec.image,
            # The provisioner alone starts containers, after it has put the configuration into the volume.
            start=False,
            must_run=False,
            restart="no",
            runtime=spec.runtime,
            # With `network_mode` beside it the fixed address would be lost without a word.
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=spec.network, ipv4_address=str(spec.address)),
            ],
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
            security_opts=["no-new-privileges"],
            init=True,
            user=USER,
            read_only=True,
            tmpfs=dict(TMPFS),
            volumes=[docker.ContainerVolumeArgs(volume_name=self.volume.name, container_path=HOME)],
            memory=spec.memory_mib,
            memory_swap=spec.swap_mib,
            cpus=spec.cpus,
            envs=list(ENVIRONMENT),
            labels=[docker.ContainerLabelArgs(label=key, value=value) for key, value in sorted(labels.items())],
            log_driver="local",
            log_opts={"max-size": "10m", "max-file": "3"},
            destroy_grace_seconds=_STOP_GRACE,
            opts=pulumi.ResourceOptions(
                parent=self,
                delete_before_replace=True,
                # Without this they would change Pulumi's state and not the container.
                replace_on_changes=["healthcheck", "init", "tmpfs"],
            ),
        )
        self.register_outputs({"container": self.container.id, "volume": self.volume.name})
