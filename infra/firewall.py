"""The firewall of instances: one nftables table of our own, put in place before Docker and put back when it is gone.

Drop is final in any base chain, so the table holds whatever UFW and Docker accept later, and no reload of theirs
touches it. Instances reach the gateway's ports that the table names, and the internet as their policy says:
membership of `egress_open` and `egress_list`, which the provisioner keeps (`bot/provisioner/egress.py`). The tables are
loaded in one transaction that also fills the sets from the provisioner's file of members, so there is no moment
without rules or members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import pulumi

from infra.refused import REFUSED
from infra.spec import HostSpec
from infra.steps import HostFile, Steps

#: The table, as `nft` names it.
TABLE = "inet zaki"
#: Where host-side files of ours are; what is loaded and who is a member is in the second, gone with a reboot.
FOLDER = "/etc/zaki"
RUN = "/run/zaki"
#: Below :data:`RUN`, the provisioner's own folder: `ADDRESS open` or `ADDRESS PORT` a line, locked with `flock`.
MEMBERS = "egress/members"
LOADER = "/usr/local/lib/zaki/firewall"
#: Nobody's: stands in for a user that does not exist (yet).
_NO_UID = 4294967294
#: Mail is refused for all: one spammer spoils the address of everybody.
_MAIL_PORTS = (25, 465, 587)


@dataclass(frozen=True, slots=True)
class FirewallSpec:
    """All that the tables depend on."""

    bridge: str
    subnet: IPv4Network
    #: The host's address on the bridge.
    gateway: IPv4Address
    #: Where Zaki's own side for instances listens on the gateway.
    port: int = 8081
    #: Where the proxy listens on the gateway, a port for each list of names.
    proxy_ports: Sequence[int] = ()
    #: Resolvers that the proxy's and the resolver's users may ask even at refused addresses.
    resolvers: Sequence[IPv4Address] = ()
    #: Users who, besides root, may open connections to instances; they need not exist yet.
    speakers: Sequence[str] = ("zaki-front",)
    #: Users who reach the internet on behalf of instances, and nothing but the internet.
    fetchers: Sequence[str] = ("zaki-proxy", "zaki-resolver")
    #: Limits of one instance: open connections, new ones a second (and at once), kB a second each way (and at once).
    connections: int = 256
    new_connections: int = 50
    new_at_once: int = 200
    rate_kbytes: int = 12_500
    burst_kbytes: int = 4_096
    #: New connections to SSH from one address outside, a minute and at once. UFW's own limit, six in half a minute,
    #: would stop an `up`, which opens one for each of its steps.
    logins: int = 60
    folder: str = FOLDER
    run: str = RUN
    refused: Sequence[IPv4Network] = field(default=REFUSED)

    @classmethod
    def of(cls, host: HostSpec) -> FirewallSpec:
        """The firewall of a declared host."""
        return cls(
            bridge=host.bridge,
            subnet=host.subnet,
            gateway=host.gateway,
            proxy_ports=tuple(host.proxy_ports.values()),
            resolvers=host.forwarders,
        )


def render_table(spec: FirewallSpec) -> str:
    """The `inet` table; expects definitions before it: `speakers` and `fetchers` (sets of uids), `ssh` (ports)."""
    bridge, size = f'"{spec.bridge}"', spec.subnet.num_addresses
    proxy = ""
    if spec.proxy_ports:
        proxy = (
            f"    ip daddr {spec.gateway} tcp dport {_anonymous(spec.proxy_ports)} "
            "ip saddr . tcp dport @egress_list accept\n"
        )
    resolvers = _anonymous([spec.gateway, *spec.resolvers])
    return f"""\
add table {TABLE}
delete table {TABLE}
table {TABLE} {{
  comment "Zaki: what instances may reach; changed by hand it is put back"

  set egress_open {{ type ipv4_addr; size {size}; }}
  set egress_list {{ type ipv4_addr . inet_service; size {size}; }}
  set connections {{ type ipv4_addr; size {size}; flags dynamic; }}
  set fresh {{ type ipv4_addr; size {size}; flags dynamic,timeout; timeout 1m; }}
  set sent {{ type ipv4_addr; size {size}; flags dynamic,timeout; timeout 1m; }}
  set received {{ type ipv4_addr; size {size}; flags dynamic,timeout; timeout 1m; }}
  set logins {{ type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }}
  set logins6 {{ type ipv6_addr; size 65536; flags dynamic,timeout; timeout 1m; }}

  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}

  chain from_instance {{
    meta nfproto ipv6 drop
    ip saddr != {spec.subnet} drop
    ip saddr {{ {spec.subnet.network_address}, {spec.gateway}, {spec.subnet.broadcast_address} }} drop
    update @sent {{ ip saddr {_rate(spec)} }} drop
    ct state new update @fresh {{ ip saddr limit rate over {spec.new_connections}/second \
burst {spec.new_at_once} packets }} drop
    ct state new add @connections {{ ip saddr ct count over {spec.connections} }} drop
  }}

  chain to_instance {{
    meta nfproto ipv6 drop
    update @received {{ ip daddr {_rate(spec)} }} drop
  }}

  chain input {{
    type filter hook input priority filter - 10; policy accept;
    iifname != {bridge} goto from_outside
    jump from_instance
    ct direction reply ct state established,related accept
    ip daddr {spec.gateway} tcp dport {spec.port} accept
{proxy}\
    ip daddr {spec.gateway} meta l4proto {{ tcp, udp }} th dport 53 ip saddr @egress_open accept
    goto refuse
  }}

  chain from_outside {{
    tcp dport != $ssh accept
    ct state != new accept
    update @logins {{ ip saddr limit rate over {spec.logins}/minute burst {spec.logins} packets }} drop
    update @logins6 {{ ip6 saddr limit rate over {spec.logins}/minute burst {spec.logins} packets }} drop
  }}

  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    iifname != {bridge} oifname != {bridge} goto between_others
    iifname {bridge} oifname {bridge} drop
    oifname {bridge} goto inwards
    jump from_instance
    ip saddr != @egress_open goto refuse
    ip daddr {_anonymous(spec.refused)} goto refuse
    fib daddr type != unicast goto refuse
    tcp dport {_anonymous(_MAIL_PORTS)} goto refuse
  }}

  chain inwards {{
    ct state established,related goto to_instance
    drop
  }}

  chain between_others {{
    ct state new meta iifkind != "bridge" meta oifkind "bridge" drop comment "ports that Docker published"
  }}

  chain output {{
    type filter hook output priority filter - 10; policy accept;
    oifname {bridge} goto towards_instance
    meta skuid $fetchers ct direction original goto fetching
  }}

  chain towards_instance {{
    ct state new meta skuid != $speakers goto refuse
    jump to_instance
  }}

  chain fetching {{
    meta nfproto ipv6 goto refuse
    ip daddr {resolvers} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr {_anonymous(spec.refused)} goto refuse
    fib daddr type != unicast goto refuse
  }}
}}
"""


def render_bridge_table(spec: FirewallSpec) -> str:
    """The table below IP: instances do not even see one another's frames, and none speaks as the gateway.

    Kernels without `meta ibrname` (it is a module of Debian's) do without: there br_netfilter brings what instances
    send to one another before the first table.
    """
    bridge = f'"{spec.bridge}"'
    return f"""\
add table bridge zaki
delete table bridge zaki
table bridge zaki {{
  comment "Zaki: instances and the frames between them"

  chain prerouting {{
    type filter hook prerouting priority filter - 10; policy accept;
    meta ibrname {bridge} ether type != {{ arp, ip }} drop
    meta ibrname {bridge} arp saddr ip {spec.gateway} drop
    meta ibrname {bridge} arp saddr ip != {spec.subnet} drop
  }}

  chain forward {{
    type filter hook forward priority filter - 10; policy accept;
    meta ibrname {bridge} meta obrname {bridge} drop
  }}
}}
"""


def render_loader(spec: FirewallSpec) -> str:
    """The program that loads both tables: `load`, `check` (loads what is not as it was loaded) or `status`."""
    speakers = " ".join(spec.speakers)
    fetchers = " ".join(spec.fetchers)
    return f"""\
#!/bin/bash
# Zaki's firewall: `load` it, `check` it (what is not as it was loaded is put back), or tell its `status`.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
tables={spec.folder}
run={spec.run}
members=$run/{MEMBERS}

uids() {{ # USER... : the uids of those that exist
  local user
  for user in "$@"; do id -u -- "$user" 2>/dev/null || true; done
}}

# Where sshd listens; one that cannot say it has its usual port. Early at a boot it lacks a folder of its own.
ssh_ports() {{
  mkdir -p /run/sshd 2>/dev/null || true
  {{ sshd -T 2>/dev/null || echo port 22; }} | awk '$1 == "port" {{ print $2 }}'
}}

set_of() {{ paste -sd, | sed 's/.*/{{ & }}/'; }}

definitions() {{
  printf 'define speakers = %s\\n' "$({{ echo 0; uids {speakers}; }} | set_of)"
  printf 'define fetchers = %s\\n' "$({{ echo {_NO_UID}; uids {fetchers}; }} | set_of)"
  printf 'define ssh = %s\\n' "$(ssh_ports | set_of)"
}}

rules() {{ definitions && cat "$tables/firewall.nft"; }}

refill() {{
  [[ -r $members ]] || return 0
  awk '$1 !~ /^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$/ {{ next }}
       $2 == "open" {{ print "add element {TABLE} egress_open {{ " $1 " }}" }}
       $2 ~ /^[0-9]+$/ {{ print "add element {TABLE} egress_list {{ " $1 " . " $2 " }}" }}' "$members"
}}

frames() {{ nft -c -f "$tables/bridge.nft" 2>/dev/null; }}

# Between containers on one bridge the first table sees nothing unless the kernel lets it.
bridge_filters() {{
  local setting
  modprobe -q br_netfilter 2>/dev/null || true
  for setting in /proc/sys/net/bridge/bridge-nf-call-{{ip,ip6}}tables; do
    [[ ! -e $setting || $(<"$setting") == 1 ]] || echo 1 >"$setting"
  done
}}

# All that is loaded but for the members of sets, and all that it was loaded from.
fingerprint() {{
  {{
    rules && cat "$tables/bridge.nft" && nft -st list table {TABLE} && {{ ! frames || nft -st list table bridge zaki; }}
  }} 2>/dev/null | sha256sum
}}

load() {{
  bridge_filters
  if ! {{ rules && refill; }} | nft -f -; then
    echo "<3>The members in $members cannot be loaded; the sets stay empty until the provisioner fills them." >&2
    rules | nft -f -
  fi
  if frames; then
    nft -f "$tables/bridge.nft"
  else
    echo "<5>This kernel filters no frames of one bridge (nft_meta_bridge); br_netfilter has to do."
  fi
  fingerprint >"$run/firewall.loaded.new"
  mv "$run/firewall.loaded.new" "$run/firewall.loaded"
}}

as_loaded() {{
  [[ -r $run/firewall.loaded && $(fingerprint || true) == "$(<"$run/firewall.loaded")" ]]
}}

install -d -m 0755 "$run" "$run/{MEMBERS.rpartition("/")[0]}"
# Nobody changes members between our reading their file and the kernel's having them.
exec 9<"$run/{MEMBERS.rpartition("/")[0]}"
flock 9
case ${{1-}} in
  load) load ;;
  check)
    bridge_filters
    if ! as_loaded; then
      echo "<4>The firewall was not as it was loaded; it is put back." >&2
      load
    fi
    ;;
  status) as_loaded || {{ echo "The firewall is not as it was loaded." >&2; exit 1; }} ;;
  *) echo "Usage: firewall load|check|status" >&2; exit 2 ;;
esac
"""


_UNIT = f"""\
[Unit]
Description=Firewall of Zaki's instances
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service
Wants=network-pre.target
Before=network-pre.target docker.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={LOADER} load
ExecReload={LOADER} load
# No ExecStop: a stopped unit must not open the host.

[Install]
WantedBy=multi-user.target
"""

_CHECK_UNIT = f"""\
[Unit]
Description=Put the firewall of Zaki's instances back where somebody changed it
Requires=zaki-firewall.service
After=zaki-firewall.service

[Service]
Type=oneshot
ExecStart={LOADER} check
LogLevelMax=notice
"""

_CHECK_TIMER = """\
[Unit]
Description=Look at the firewall of Zaki's instances

[Timer]
OnActiveSec=15
OnUnitInactiveSec=15
AccuracySec=1

[Install]
WantedBy=timers.target
"""

#: Without the tables Docker does not start: better no instance than an open one.
_DOCKER_DROP_IN = """\
[Unit]
Requires=zaki-firewall.service
After=zaki-firewall.service
"""

_UNITS = "/etc/systemd/system"

_DO = f"""\
apt_install nftables
# It flushes every table of the host, Zaki's and Docker's too, whenever it starts or stops.
if [[ $(systemctl is-enabled nftables.service 2>/dev/null || true) != masked ]]; then
  echo "nftables.service is masked: it flushes every table whenever it starts or stops, Zaki's and Docker's too."
  systemctl mask nftables.service
  touch "$record/masked"
fi
systemctl daemon-reload
systemctl --quiet enable --now zaki-firewall.service zaki-firewall-check.timer ||
  fail "The firewall of instances does not load: see \\`journalctl -u zaki-firewall\\` on this host."
systemctl reload zaki-firewall.service ||
  fail "The firewall of instances does not load: see \\`journalctl -u zaki-firewall\\` on this host."
{LOADER} status
"""

#: Docker must not wait for a unit that is about to go.
_UNDO = f"""\
systemctl --quiet disable --now zaki-firewall-check.timer || true
rm -f {_UNITS}/docker.service.d/zaki-firewall.conf
systemctl daemon-reload
systemctl --quiet disable --now zaki-firewall.service || true
if [[ -e $record/masked ]]; then systemctl unmask nftables.service; fi
for table in "inet zaki" "bridge zaki"; do
  # shellcheck disable=SC2086
  if nft list table $table >/dev/null 2>&1; then nft delete table $table; fi
done
rm -rf {RUN}/egress {RUN}/firewall.loaded
"""

_CHECK = f"""\
systemctl --quiet is-enabled zaki-firewall.service || echo "zaki-firewall.service is not started at boot"
systemctl --quiet is-active zaki-firewall-check.timer || echo "zaki-firewall-check.timer does not run"
[[ $(systemctl is-enabled nftables.service 2>/dev/null || true) == masked ]] ||
  echo "nftables.service is not masked, and flushes every table when it starts or stops"
{LOADER} status 2>&1 || true
"""


def firewall_files(spec: FirewallSpec) -> dict[str, HostFile]:
    """Everything that the firewall consists of, by path."""
    return {
        f"{spec.folder}/firewall.nft": HostFile(render_table(spec)),
        f"{spec.folder}/bridge.nft": HostFile(render_bridge_table(spec)),
        LOADER: HostFile(render_loader(spec), mode=0o755),
        f"{_UNITS}/zaki-firewall.service": HostFile(_UNIT),
        f"{_UNITS}/zaki-firewall-check.service": HostFile(_CHECK_UNIT),
        f"{_UNITS}/zaki-firewall-check.timer": HostFile(_CHECK_TIMER),
        f"{_UNITS}/docker.service.d/zaki-firewall.conf": HostFile(_DOCKER_DROP_IN),
    }


class Firewall(pulumi.ComponentResource):
    """The tables on a host; `ready` is what has to be there before an instance starts."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: FirewallSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Firewall", name, None, opts)
        self.ready = steps.run(
            "firewall",
            _DO,
            undo=_UNDO,
            check=_CHECK,
            files=firewall_files(spec),
            parent=self,
            depends_on=depends_on,
        )
        self.register_outputs({})


def _anonymous(members: Sequence[object]) -> str:
    """A set without a name, which no hand can change a member of."""
    return f"{{ {', '.join(map(str, members))} }}"


def _rate(spec: FirewallSpec) -> str:
    return f"limit rate over {spec.rate_kbytes} kbytes/second burst {spec.burst_kbytes} kbytes"
