"""The resolver of instances whose policy is `open`, and of the proxy: Debian's unbound on the gateway's port 53.

No name leads to a refused address, and no server of a name makes it ask one. Instances of the other policies are kept
from it by the firewall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pulumi

from infra.refused import REFUSED, refused_but
from infra.spec import HostSpec
from infra.steps import HostFile, Steps

USER = "zaki-resolver"
#: Where Debian's profile of AppArmor lets unbound read.
CONFIG = "/etc/unbound/zaki.conf"


@dataclass(frozen=True, slots=True)
class ResolverSpec:
    """All that the resolver's configuration depends on."""

    gateway: IPv4Address
    subnet: IPv4Network
    #: Whom it asks; none: the servers of the names themselves.
    forwarders: Sequence[IPv4Address] = ()
    #: Questions of one instance a second.
    questions: int = 200

    @classmethod
    def of(cls, host: HostSpec) -> ResolverSpec:
        """The resolver of a declared host."""
        return cls(gateway=host.gateway, subnet=host.subnet, forwarders=host.forwarders)


def render_unbound(spec: ResolverSpec) -> str:
    """unbound's configuration."""
    lines = [
        "server:",
        f"  interface: {spec.gateway}",
        # The address comes with Docker's bridge, after this starts.
        "  ip-freebind: yes",
        "  access-control: 0.0.0.0/0 refuse",
        "  access-control: ::0/0 refuse",
        f"  access-control: {spec.subnet} allow",
        f"  ip-ratelimit: {spec.questions}",
        "  do-ip6: no",
        "  do-daemonize: no",
        '  username: ""',
        '  chroot: ""',
        '  directory: "/"',
        '  pidfile: ""',
        "  use-syslog: no",
        '  logfile: ""',
        "  log-queries: no",
        "  hide-identity: yes",
        "  hide-version: yes",
        "  minimal-responses: yes",
        "  qname-minimisation: yes",
        '  module-config: "iterator"',
        # Instances have no IPv6, so they need no such addresses.
        "  private-address: ::/0",
        *(f"  private-address: {network}" for network in REFUSED),
        "  do-not-query-localhost: no",
        *(f"  do-not-query-address: {network}" for network in refused_but(spec.forwarders)),
        "remote-control:",
        "  control-enable: no",
    ]
    if spec.forwarders:
        lines += ["forward-zone:", '  name: "."', *(f"  forward-addr: {address}" for address in spec.forwarders)]
    return "\n".join(lines) + "\n"


_UNIT = f"""\
[Unit]
Description=Resolver of Zaki's instances
After=network-online.target zaki-firewall.service
Wants=network-online.target
Requires=zaki-firewall.service
StartLimitIntervalSec=0

[Service]
Type=notify
User={USER}
Group={USER}
ExecStart=/usr/sbin/unbound -d -p -c {CONFIG}
Restart=always
RestartSec=2
MemoryMax=256M
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""

_UNITS = "/etc/systemd/system"
_SYSUSERS = "/etc/sysusers.d/zaki-resolver.conf"

_DO = f"""\
if ! [[ -x /usr/sbin/unbound ]]; then
  # Debian's own unit would take the place of the host's resolver.
  if systemctl mask unbound.service; then touch "$record/masked"; fi
  apt_install unbound
fi
systemd-sysusers {_SYSUSERS}
refusal=$(/usr/sbin/unbound-checkconf {CONFIG} 2>&1) ||
  fail "The resolver does not take its configuration: ${{refusal%%$'\\n'*}}"
systemctl daemon-reload
systemctl --quiet enable zaki-resolver.service
systemctl restart zaki-resolver.service ||
  fail "The resolver does not start: see \\`journalctl -u zaki-resolver\\` on this host."
# The firewall knows its user by number.
systemctl reload zaki-firewall.service
"""

_UNDO = f"""\
systemctl --quiet disable --now zaki-resolver.service || true
if [[ -e $record/masked ]]; then systemctl unmask unbound.service; fi
userdel {USER} || true
# The firewall knows its user by number.
if systemctl --quiet is-active zaki-firewall.service; then systemctl reload zaki-firewall.service; fi
"""

_CHECK = """\
systemctl --quiet is-enabled zaki-resolver.service || echo "zaki-resolver.service is not started at boot"
systemctl --quiet is-active zaki-resolver.service || echo "zaki-resolver.service does not run"
"""


def resolver_files(spec: ResolverSpec) -> dict[str, HostFile]:
    """Everything that the resolver consists of, by path."""
    return {
        CONFIG: HostFile(render_unbound(spec)),
        _SYSUSERS: HostFile(f'u {USER} - "Resolver of Zaki\'s instances"\n'),
        f"{_UNITS}/zaki-resolver.service": HostFile(_UNIT),
    }


class Resolver(pulumi.ComponentResource):
    """The resolver on a host, for instances whose policy is `open` and for the proxy."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: ResolverSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Resolver", name, None, opts)
        self.ready = steps.run(
            "resolver", _DO, undo=_UNDO, check=_CHECK, files=resolver_files(spec), parent=self, depends_on=depends_on
        )
        self.register_outputs({})
