"""A host, as far as instances need one: bridge, swap, their image's identity, and the file that tells the services."""

from __future__ import annotations

import json

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra.firewall import MEMBERS, RUN
from infra.hardening import Hardening, HardeningSpec
from infra.network import declare_bridge, declare_bridge_there
from infra.runtime import Runtime, RuntimeSpec
from infra.spec import HostSpec, is_digest
from infra.steps import HostFile, Steps
from infra.swap import declare_swap, declare_swap_there

#: A reader sees the old file or the new one, never a part.
_WRITE = """\
set -eu
umask 022
case "$ZAKI_HOST_FILE" in "~/"*) file="$HOME/${ZAKI_HOST_FILE#??}" ;; *) file="$ZAKI_HOST_FILE" ;; esac
mkdir -p "$(dirname "$file")"
draft="$(mktemp "$file.XXXXXX")"
trap 'rm -f "$draft"' EXIT
cat >"$draft"
chmod 0644 "$draft"
sync "$draft"
mv -f "$draft" "$file"
"""
_REMOVE = """\
case "$ZAKI_HOST_FILE" in "~/"*) file="$HOME/${ZAKI_HOST_FILE#??}" ;; *) file="$ZAKI_HOST_FILE" ;; esac
rm -f "$file"
"""


class HostStack(pulumi.ComponentResource):
    """The resources of one host, and in `facts` what the services read about it (see `bot/hostfacts.py`)."""

    network: pulumi.Output[str]
    facts: pulumi.Output[str]

    def __init__(self, name: str, spec: HostSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("zaki:index:HostStack", name, None, opts)
        # First, so that a host without an image gets nothing at all.
        image = _identity(spec, self)
        steps = Steps(spec.target)
        ready = _hardened(spec, steps, self) if spec.harden else []
        if spec.target is None:
            self.network = declare_bridge(spec, pulumi.ResourceOptions(parent=self, depends_on=ready)).name
            declare_swap(spec, pulumi.ResourceOptions(parent=self))
        else:
            ready = [declare_bridge_there(spec, steps, self, ready), *declare_swap_there(spec, steps, self, ready)]
            self.network = pulumi.Output.from_input(spec.network)
        self.facts = pulumi.Output.all(network=self.network, image=image).apply(
            lambda known: (
                json.dumps(
                    {
                        "network": known["network"],
                        "bridge": spec.bridge,
                        "subnet": str(spec.subnet),
                        "gateway": str(spec.gateway),
                        "docker_range": str(spec.docker_part),
                        "image": known["image"],
                        "runtime": spec.runtime,
                        "volumes": spec.volumes,
                        **_egress(spec),
                    },
                    indent=2,
                )
                + "\n"
            )
        )
        if spec.target is None:
            command.local.Command(
                "host-file",
                create=_WRITE,
                delete=_REMOVE,
                stdin=self.facts,
                environment={"ZAKI_HOST_FILE": spec.host_file},
                add_previous_output_in_env=False,
                # Another path is another file: remove the old one, then write the new one.
                opts=pulumi.ResourceOptions(
                    parent=self, replace_on_changes=["environment"], delete_before_replace=True
                ),
            )
        else:
            written = {spec.host_file: HostFile(self.facts)}
            steps.run("host-file", "", files=written, parent=self, depends_on=ready)
        self.register_outputs({"network": self.network, "facts": self.facts})


def _hardened(spec: HostSpec, steps: Steps, parent: HostStack) -> list[pulumi.Resource]:
    """Make the machine itself one that may hold instances; returns what the rest has to wait for."""
    for warning in steps.found.warnings:
        pulumi.log.warn(warning, parent)
    user = None if spec.target is None else spec.target.user
    options = pulumi.ResourceOptions(parent=parent)
    hardening = Hardening("hardening", HardeningSpec(ssh_user=user, subnet=spec.subnet), steps, opts=options)
    runtime = Runtime("runtime", RuntimeSpec(), steps, depends_on=[hardening.ready], opts=options)
    return [runtime.ready]


def _egress(spec: HostSpec) -> dict[str, object]:
    """What the provisioner needs to let instances out by their policies; nothing where no firewall stops them."""
    if not spec.firewall:
        return {}
    proxies = {plan: f"{spec.gateway}:{port}" for plan, port in spec.proxy_ports.items()}
    return {"egress": {"members": f"{RUN}/{MEMBERS}", "resolver": str(spec.gateway), "proxies": proxies}}


def _identity(spec: HostSpec, parent: HostStack) -> pulumi.Input[str]:
    """The digest of the image that instances run, from which a rebuilt tag is noticed at the next `up`."""
    if spec.image.startswith("sha256:") or spec.target is not None:
        return spec.image
    if is_digest(spec.image):
        pulled = docker.RemoteImage(
            "image", name=spec.image, keep_locally=True, opts=pulumi.ResourceOptions(parent=parent)
        )
        return pulled.name
    try:
        found = docker.get_remote_image(name=spec.image, opts=pulumi.InvokeOptions(parent=parent))
    except Exception as error:
        # The cause is the last of several lines.
        reason = str(error).strip().rpartition("\n")[2].strip("* \t.")
        raise pulumi.RunError(
            f"The image {spec.image} is not to be had from this Docker daemon ({reason}); run scripts/setup, "
            "or set zaki:image to an image that is there."
        ) from None
    return found.id
