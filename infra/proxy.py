"""The proxy of instances whose policy is `list`: Debian's squid, which lets them reach named domains and nothing else.

It never opens what is encrypted: it reads the name that the client asks for, and passes the connection on or ends it.
Each list of names has a port of its own, and the firewall lets an instance reach only the port of its own list; so
who may reach what changes without a word to the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pulumi

from infra.refused import REFUSED
from infra.spec import HostSpec
from infra.steps import HostFile, Steps

USER = "zaki-proxy"
#: Where Debian's profile of AppArmor lets squid read.
FOLDER = "/etc/squid/zaki"
#: How systemd writes it in the name of a device.
_HYPHEN = r"\x2d"


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """All that the proxy's configuration depends on."""

    gateway: IPv4Address
    subnet: IPv4Network
    #: The bridge's device, which has the gateway's address.
    bridge: str
    #: By the name of a list: its port, and its names (with a dot before it: and all below).
    ports: Mapping[str, int]
    lists: Mapping[str, Sequence[str]]
    #: Connections of one instance at a time.
    connections: int = 128
    folder: str = FOLDER
    refused: Sequence[IPv4Network] = REFUSED

    @classmethod
    def of(cls, host: HostSpec) -> ProxySpec:
        """The proxy of a declared host."""
        return cls(
            gateway=host.gateway,
            subnet=host.subnet,
            bridge=host.bridge,
            ports=host.proxy_ports,
            lists=host.egress_lists,
        )


def render_squid(spec: ProxySpec) -> str:
    """squid's configuration."""
    ports, names, allowed, spliced = [], [], [], []
    for index, (name, port) in enumerate(sorted(spec.ports.items())):
        listed = " ".join(without_covered(spec.lists[name]))
        ports.append(
            f"http_port {spec.gateway}:{port} name=list{index} ssl-bump generate-host-certificates=off "
            f"tls-cert={spec.folder}/refusal.pem"
        )
        names += [
            f"# the plan {name}",
            f"acl at{index} myportname list{index}",
            # -n: an address has no name, whatever its owner's reverse DNS says.
            f"acl named{index} dstdomain -n {listed}",
            f"acl asked{index} ssl::server_name --client-requested {listed}",
        ]
        allowed.append(f"http_access allow at{index} named{index}")
        spliced.append(f"ssl_bump splice at{index} asked{index}")
    lines = [
        *ports,
        f"acl instances src {spec.subnet}",
        "acl tls port 443",
        "acl CONNECT method CONNECT",
        f"acl refused dst {' '.join(map(str, spec.refused))}",
        "acl first_step at_step SslBump1",
        *names,
        "http_access deny !instances",
        "http_access deny !CONNECT",
        "http_access deny !tls",
        # Before the lists: a listed name may point anywhere.
        "http_access deny refused",
        *allowed,
        "http_access deny all",
        "ssl_bump peek first_step",
        *spliced,
        "ssl_bump terminate all",
        f"dns_nameservers {spec.gateway}",
        "hosts_file none",
        f"client_ip_max_connections {spec.connections}",
        "cache deny all",
        # Who speaks to whom is nobody's business.
        "access_log none",
        "cache_log /dev/null",
        "cache_store_log none",
        "logfile_rotate 0",
        "pid_filename none",
        "coredump_dir none",
        "pinger_enable off",
        "forwarded_for delete",
        "via off",
        "httpd_suppress_version_string on",
        "visible_hostname zaki",
        "cache_mem 8 MB",
        "digest_generation off",
        "shutdown_lifetime 1 seconds",
    ]
    return "\n".join(lines) + "\n"


def without_covered(names: Sequence[str]) -> list[str]:
    """The names without those that another one covers, which squid refuses to start with."""
    wide = {name for name in names if name.startswith(".")}

    def covered(name: str) -> bool:
        plain = name.removeprefix(".")
        above = plain.split(".")
        parents = {"." + ".".join(above[index:]) for index in range(len(above))}
        return bool((parents - {name}) & wide)

    return sorted({name for name in names if not covered(name)})


def render_unit(spec: ProxySpec) -> str:
    """squid listens only at an address that is there: it runs as long as the bridge does."""
    device = f"sys-subsystem-net-devices-{spec.bridge.replace('-', _HYPHEN)}.device"
    there = f"until ip -4 -oneline address show dev {spec.bridge} | grep -q 'inet {spec.gateway}/'; do sleep 0.2; done"
    return f"""\
[Unit]
Description=Proxy of Zaki's instances that may reach named domains only
After=network-online.target zaki-firewall.service zaki-resolver.service {device}
Wants=network-online.target
Requires=zaki-firewall.service
BindsTo={device}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStartPre=/bin/sh -c "{there}"
User={USER}
Group={USER}
ExecStart=/usr/sbin/squid --foreground -d 1 -f {FOLDER}/squid.conf
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
Restart=always
RestartSec=2
LimitNOFILE=65536
MemoryMax=512M
NoNewPrivileges=yes
CapabilityBoundingSet=
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
WantedBy={device}
"""


_UNITS = "/etc/systemd/system"
_SYSUSERS = "/etc/sysusers.d/zaki-proxy.conf"


def render_do(spec: ProxySpec) -> str:
    """Have squid run, now or with the bridge."""
    return f"""\
if ! [[ -x /usr/sbin/squid ]]; then
  # Debian's own unit would start a proxy for everybody.
  if systemctl mask squid.service; then touch "$record/masked"; fi
  apt_install squid-openssl openssl
fi
apt_install openssl
[[ $(/usr/sbin/squid -v) == *--with-openssl* ]] ||
  fail "The squid on this host cannot read names of encrypted connections: remove it, and squid-openssl is installed."
systemd-sysusers {_SYSUSERS}
# What a client is shown whose connection is refused, and nobody else.
if ! [[ -e {FOLDER}/refusal.pem ]]; then
  umask 077
  openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj "/CN=not on the list of allowed names" \\
    -keyout {FOLDER}/refusal.new -out {FOLDER}/refusal.crt
  cat {FOLDER}/refusal.crt >>{FOLDER}/refusal.new
  chown {USER}: {FOLDER}/refusal.new
  rm {FOLDER}/refusal.crt
  mv {FOLDER}/refusal.new {FOLDER}/refusal.pem
fi
refusal=$(/usr/sbin/squid -k parse -f {FOLDER}/squid.conf 2>&1) ||
  fail "The proxy does not take its configuration: ${{refusal##*$'\\n'}}"
systemctl daemon-reload
systemctl --quiet reenable zaki-proxy.service
if [[ -e /sys/class/net/{spec.bridge} ]]; then
  systemctl restart zaki-proxy.service ||
    fail "The proxy does not start: see \\`journalctl -u zaki-proxy\\` on this host."
fi
# The firewall knows its user by number.
systemctl reload zaki-firewall.service
"""


_UNDO = f"""\
systemctl --quiet disable --now zaki-proxy.service || true
if [[ -e $record/masked ]]; then systemctl unmask squid.service; fi
rm -f {FOLDER}/refusal.pem
userdel {USER} || true
# The firewall knows its user by number.
if systemctl --quiet is-active zaki-firewall.service; then systemctl reload zaki-firewall.service; fi
"""


def render_check(spec: ProxySpec) -> str:
    """Say whether squid comes with the bridge, and whether it is there."""
    return f"""\
systemctl --quiet is-enabled zaki-proxy.service || echo "zaki-proxy.service is not started at boot"
[[ ! -e /sys/class/net/{spec.bridge} ]] || systemctl --quiet is-active zaki-proxy.service ||
  echo "zaki-proxy.service does not run"
"""


def proxy_files(spec: ProxySpec) -> dict[str, HostFile]:
    """Everything that the proxy consists of, by path."""
    return {
        f"{FOLDER}/squid.conf": HostFile(render_squid(spec)),
        _SYSUSERS: HostFile(f'u {USER} - "Proxy of Zaki\'s instances"\n'),
        f"{_UNITS}/zaki-proxy.service": HostFile(render_unit(spec)),
    }


class Proxy(pulumi.ComponentResource):
    """The proxy on a host, for instances whose policy is `list`."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: ProxySpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Proxy", name, None, opts)
        self.ready = steps.run(
            "proxy",
            render_do(spec),
            undo=_UNDO,
            check=render_check(spec),
            files=proxy_files(spec),
            parent=self,
            depends_on=depends_on,
        )
        self.register_outputs({})
