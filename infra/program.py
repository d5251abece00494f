"""The Pulumi program: run by plain `pulumi` through `__main__.py`, and by the provisioner as an inline program."""

from __future__ import annotations

import pulumi

from infra import checks
from infra.checks import is_refusal
from infra.configuration import PROJECT, SpecError
from infra.host import HostStack
from infra.instance import UserInstance
from infra.service import Release, ServiceSpec
from infra.spec import HostSpec, InstanceSpec
from infra.tailnet import KEY, TailnetSpec
from infra.tls import TlsSpec
from infra.units import SECRETS

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
            release = Release.from_config(config)
            # Not written down, so that the next release brings its own.
            brought = release.image if release is not None and config.get("image") is None else None
            spec = HostSpec.from_config(config, brought)
            secrets = {name: value for name in (*SECRETS, KEY) if (value := config.get_secret(name)) is not None}
            tls, tailnet = TlsSpec.from_config(config), TailnetSpec.from_config(config, spec.target)
            told = tls.settings if tls is not None else {}
            service = ServiceSpec.from_config(config, spec, release, frozenset(secrets) & SECRETS.keys(), told)
            _export_host(HostStack(stack, spec, service=service, tls=tls, tailnet=tailnet, secrets=secrets), spec)
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


def _export_host(host: HostStack, spec: HostSpec) -> None:
    pulumi.export("network", host.network)
    pulumi.export("facts", host.facts)
    pulumi.export("host_file", spec.host_file)
