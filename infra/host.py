"""A host, as far as instances need one: bridge, swap, their image's identity, and the file that tells the services."""

from __future__ import annotations

import json

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra.network import declare_bridge
from infra.spec import HostSpec, is_digest
from infra.swap import declare_swap

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

    network: docker.Network
    facts: pulumi.Output[str]

    def __init__(self, name: str, spec: HostSpec, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("zaki:index:HostStack", name, None, opts)
        # First, so that a host without an image gets nothing at all.
        image = _identity(spec, self)
        self.network = declare_bridge(spec, pulumi.ResourceOptions(parent=self))
        declare_swap(spec, pulumi.ResourceOptions(parent=self))
        self.facts = pulumi.Output.all(network=self.network.name, image=image).apply(
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
                    },
                    indent=2,
                )
                + "\n"
            )
        )
        command.local.Command(
            "host-file",
            create=_WRITE,
            delete=_REMOVE,
            stdin=self.facts,
            environment={"ZAKI_HOST_FILE": spec.host_file},
            add_previous_output_in_env=False,
            # Another path is another file: remove the old one, then write the new one.
            opts=pulumi.ResourceOptions(parent=self, replace_on_changes=["environment"], delete_before_replace=True),
        )
        self.register_outputs({"network": self.network.name, "facts": self.facts})


def _identity(spec: HostSpec, parent: HostStack) -> pulumi.Input[str]:
    """The digest of the image that instances run, from which a rebuilt tag is noticed at the next `up`."""
    if spec.image.startswith("sha256:"):
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
