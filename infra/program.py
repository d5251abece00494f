"""The Pulumi program: run by plain `pulumi` through `__main__.py`, and by the provisioner as an inline program."""

from __future__ import annotations

import pulumi

from infra import checks
from infra.checks import is_refusal
from infra.host import HostStack
from infra.instance import UserInstance
from infra.spec import PROJECT, HostSpec, InstanceSpec, SpecError

__all__ = ["is_refusal", "main"]


def main() -> None:
    """Declare the stack: one that is named `u-…` is one person's instance, any other is a host.

    Reads nothing but the stack's configuration.
    """
    stack = pulumi.get_stack()
    checks.register()
    config = pulumi.Config(PROJECT)
    try:
        if stack.startswith("u-"):
            _declare_instance(stack, InstanceSpec.from_config(config))
        else:
            _declare_host(stack, HostSpec.from_config(config))
    except SpecError as error:
        raise pulumi.RunError(str(error)) from None


def _declare_instance(stack: str, spec: InstanceSpec) -> None:
    if spec.id != stack:
        raise SpecError(f"{PROJECT}:id is {spec.id}; set it to {stack}, which is the name of the stack.")
    instance = UserInstance(spec)
    pulumi.export("container", instance.container.id)
    pulumi.export("volume", instance.volume.name)
    pulumi.export("address", str(spec.address))
    pulumi.export("image", spec.image)


def _declare_host(stack: str, spec: HostSpec) -> None:
    host = HostStack(stack, spec)
    pulumi.export("network", host.network.name)
    pulumi.export("facts", host.facts)
    pulumi.export("host_file", spec.host_file)
