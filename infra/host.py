"""A host, as far as instances need one: bridge, swap, their image's identity, and the file that tells the services."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra.firewall import MEMBERS, RUN, Firewall, FirewallSpec
from infra.hardening import Hardening, HardeningSpec
from infra.network import declare_bridge, declare_bridge_there
from infra.proxy import Proxy, ProxySpec
from infra.resolver import Resolver, ResolverSpec
from infra.runtime import Runtime, RuntimeSpec
from infra.service import Installed, Service, ServiceSpec
from infra.spec import HostSpec, is_digest
from infra.steps import HostFile, Steps
from infra.swap import declare_swap, declare_swap_there
from infra.tailnet import KEY, Tailnet, TailnetSpec
from infra.tls import Tls, TlsSpec
from infra.ufw import PublicSide, UfwSpec

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

#: What was declared, with the image's name where the facts have its identity.
_DECLARED = "/var/lib/zaki/host.declared"
_RESOLVE = f"""\
resolve() {{
  local image id
  image=$(sed -n 's/^  "image": "\\(.*\\)",$/\\1/p' {_DECLARED})
  id=$(docker image inspect --format '{{{{.Id}}}}' "$image") || {{
    echo "The image $image is not on this host: set zaki:image to one that is, or to a digest that can be pulled." >&2
    return 1
  }}
  sed "s|^  \\"image\\": .*|  \\"image\\": \\"$id\\",|" {_DECLARED}
}}
"""
_NO_SECRETS: Mapping[str, pulumi.Input[str]] = MappingProxyType({})


class HostStack(pulumi.ComponentResource):
    """The resources of one host, and in `facts` what the services read about it (see `bot/hostfacts.py`)."""

    network: pulumi.Output[str]
    facts: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        spec: HostSpec,
        *,
        service: ServiceSpec | None = None,
        tls: TlsSpec | None = None,
        tailnet: TailnetSpec | None = None,
        secrets: Mapping[str, pulumi.Input[str]] = _NO_SECRETS,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare it.

        Args:
            name: Of the stack.
            spec: The host, as far as instances need one.
            service: What of Zaki serves there; None: nothing, somebody starts it by hand.
            tls: How Telegram reaches it; None: it does not, and is asked.
            tailnet: What of the host is on a tailnet; None: nothing.
            secrets: The values of `service.secrets`, and the tailnet's key.
            opts: Of the component.
        """
        super().__init__("zaki:index:HostStack", name, None, opts)
        # First, so that a host without an image gets nothing at all.
        image = _identity(spec, self)
        steps = Steps(spec.target)
        if service is not None:
            where = "this machine" if spec.target is None else spec.target.host
            steps.found.require_free(where, service.endpoints)
        ready = _machine(spec, steps, self)
        if spec.target is None:
            network = declare_bridge(spec, pulumi.ResourceOptions(parent=self, depends_on=ready))
            declare_swap(spec, pulumi.ResourceOptions(parent=self))
            self.network = network.name
            ready = [*ready, network]
        else:
            ready = [declare_bridge_there(spec, steps, self, ready), *declare_swap_there(spec, steps, self, ready)]
            self.network = pulumi.Output.from_input(spec.network)
        options = pulumi.ResourceOptions(parent=self)
        if service is not None:
            ready = [Installed("release", service.release, spec.image, steps, depends_on=ready, opts=options).ready]
        self.facts = pulumi.Output.all(network=self.network, image=image).apply(
            lambda known: _facts(spec, known["network"], known["image"])
        )
        ready = [_told(spec, self.facts, steps, self, ready)]
        if service is not None:
            ready = [Service("service", service, steps, secrets, self.facts, depends_on=ready, opts=options).ready]
        # Nothing waits for a certificate, for which somebody else's name server has to be right.
        if tls is not None:
            Tls("tls", tls, steps, depends_on=ready, opts=options)
        if tailnet is not None:
            Tailnet("tailnet", tailnet, steps, secrets[KEY], target=spec.target, depends_on=ready, opts=options)
        self.register_outputs({"network": self.network, "facts": self.facts})


def _machine(spec: HostSpec, steps: Steps, parent: HostStack) -> list[pulumi.Resource]:
    """Make the machine itself one that may hold instances; returns what the rest has to wait for."""
    ready: list[pulumi.Resource] = []
    if not (spec.harden or spec.firewall):
        return ready
    options = pulumi.ResourceOptions(parent=parent)
    for warning in steps.found.warnings:
        pulumi.log.warn(warning, parent)
    if spec.harden:
        user = None if spec.target is None else spec.target.user
        ready = [Hardening("hardening", HardeningSpec(ssh_user=user, subnet=spec.subnet), steps, opts=options).ready]
    if spec.firewall:
        # Docker is not started without the firewall.
        ready = [Firewall("firewall", FirewallSpec.of(spec), steps, depends_on=ready, opts=options).ready]
        ready = [Resolver("resolver", ResolverSpec.of(spec), steps, depends_on=ready, opts=options).ready]
        if spec.egress_lists:
            ready = [Proxy("proxy", ProxySpec.of(spec), steps, depends_on=ready, opts=options).ready]
    if spec.harden:
        ready = [PublicSide("public-side", UfwSpec.of(spec), steps, depends_on=ready, opts=options).ready]
        ready = [Runtime("runtime", RuntimeSpec(), steps, depends_on=ready, opts=options).ready]
    return ready


def _facts(spec: HostSpec, network: str, image: str) -> str:
    facts = {
        "network": network,
        "bridge": spec.bridge,
        "subnet": str(spec.subnet),
        "gateway": str(spec.gateway),
        "docker_range": str(spec.docker_part),
        "image": image,
        "runtime": spec.runtime,
        "volumes": spec.volumes,
        **_egress(spec),
    }
    return json.dumps(facts, indent=2) + "\n"


def _told(
    spec: HostSpec,
    facts: pulumi.Output[str],
    steps: Steps,
    parent: HostStack,
    depends_on: Sequence[pulumi.Resource],
) -> pulumi.Resource:
    """Write the facts where the services read them."""
    if spec.target is None:
        return command.local.Command(
            "host-file",
            create=_WRITE,
            delete=_REMOVE,
            stdin=facts,
            environment={"ZAKI_HOST_FILE": spec.host_file},
            add_previous_output_in_env=False,
            # Another path is another file: remove the old one, then write the new one.
            opts=pulumi.ResourceOptions(parent=parent, replace_on_changes=["environment"], delete_before_replace=True),
        )
    return steps.run("host-file", **told_there(spec, facts), parent=parent, depends_on=depends_on)


def told_there(spec: HostSpec, facts: pulumi.Input[str]) -> dict[str, Any]:
    """What the step on a host behind SSH is, as :meth:`Steps.run` takes it."""
    file = shlex.quote(spec.host_file)
    if is_digest(spec.image):
        # One that the other form of the step has written is nobody's to give back.
        return {"do": f'rm -f "$record/before"{file}\n', "files": {spec.host_file: HostFile(facts)}}
    # Only the host's own Docker knows what its image is.
    return {
        "do": f"{_RESOLVE}make_folder $(dirname {file})\nresolve >{file}.new\nmv {file}.new {file}\n",
        "undo": f"rm -f {file}\n",
        "check": f"{_RESOLVE}cmp --quiet {file} <(resolve) || echo {file} says something else than what was declared\n",
        "files": {_DECLARED: HostFile(facts)},
    }


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
