"""A host's own defences: log-ins by key alone, bans, security updates, the right time, and the kernel's limits."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from types import MappingProxyType

import pulumi

from infra.steps import HostFile, Steps

#: Seconds in which a new log-in has to come after sshd was changed.
_PROVISIONAL_S = 120

#: Every instance is uid 1000 to the kernel, which counts some things by uid: one that takes all must not stop the rest.
#: What the kernel charges to the memory of whoever has it (all but keys) is limited by that alone: any lower limit for
#: all of them together is one that a single instance reaches.
_NO_LIMIT = str(2**31 - 1)
LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "fs.epoll.max_user_watches": _NO_LIMIT,
        "fs.inotify.max_user_instances": _NO_LIMIT,
        "fs.inotify.max_user_watches": _NO_LIMIT,
        "fs.pipe-user-pages-hard": "0",
        "fs.pipe-user-pages-soft": "0",
        "kernel.keys.maxbytes": "2000000",
        "kernel.keys.maxkeys": "20000",
    }
)
DEFENCES: Mapping[str, str] = MappingProxyType(
    {
        "fs.protected_fifos": "2",
        "fs.protected_hardlinks": "1",
        "fs.protected_regular": "2",
        "fs.protected_symlinks": "1",
        "fs.suid_dumpable": "0",
        "kernel.dmesg_restrict": "1",
        "kernel.kptr_restrict": "2",
        "kernel.unprivileged_bpf_disabled": "1",
        "net.ipv4.conf.all.accept_redirects": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.tcp_syncookies": "1",
        "net.ipv6.conf.all.accept_redirects": "0",
    }
)
#: Without these, traffic between two containers never comes by the firewall.
BRIDGE: Mapping[str, str] = MappingProxyType(
    {"net.bridge.bridge-nf-call-ip6tables": "1", "net.bridge.bridge-nf-call-iptables": "1"}
)

_SSHD = "/etc/ssh/sshd_config.d/10-zaki.conf"
_SYSCTL = "/etc/sysctl.d/60-zaki.conf"
_MODULES = "/etc/modules-load.d/zaki.conf"
_UPDATES = "/etc/apt/apt.conf.d/52zaki-updates"
_JAILS = "/etc/fail2ban/jail.d/zaki.local"
_FILTER = "/etc/fail2ban/filter.d/zaki.conf"

#: The service that writes the line, and the line: nothing in it but the address that the connection came from.
FRONT_UNIT = "zaki-front.service"
REFUSED_LINE = "zaki refused <ADDR>"
#: Telegram's own: with a secret that was just changed they are refused too.
_TELEGRAM = ("149.154.160.0/20", "91.108.4.0/22")
_TAILNET = "100.64.0.0/10"


@dataclass(frozen=True, slots=True)
class HardeningSpec:
    """What a host defends itself with."""

    #: Who logs in over SSH to manage the host; None where nobody does, and sshd is left alone.
    ssh_user: str | None
    #: The instances' own addresses, which no ban may hit.
    subnet: IPv4Network
    #: Failed log-ins from one address, within ten minutes, that ban it for an hour.
    tries: int = 5


class Hardening(pulumi.ComponentResource):
    """The defences; `ready` is the last of them."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: HardeningSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Hardening", name, None, opts)
        kernel = steps.run(
            "kernel",
            KERNEL_DO,
            undo=KERNEL_UNDO,
            check=KERNEL_CHECK,
            files={_SYSCTL: HostFile(render_sysctl()), _MODULES: HostFile("br_netfilter\n")},
            parent=self,
            depends_on=depends_on,
        )
        clock = steps.run("clock", CLOCK_DO, check=CLOCK_CHECK, parent=self, depends_on=[kernel])
        updates = steps.run(
            "updates",
            UPDATES_DO,
            check=UPDATES_CHECK,
            files={_UPDATES: HostFile(render_updates())},
            parent=self,
            depends_on=[clock],
        )
        self.ready = steps.run(
            "bans",
            BANS_DO,
            undo=BANS_UNDO,
            check=BANS_CHECK,
            files={_JAILS: HostFile(render_jails(spec)), _FILTER: HostFile(render_filter())},
            parent=self,
            depends_on=[updates],
        )
        if spec.ssh_user is not None:
            self.ready = steps.run(
                "sshd",
                render_sshd_do(spec.ssh_user),
                undo=SSHD_UNDO,
                check=render_sshd_check(spec.ssh_user),
                files={_SSHD: HostFile(render_sshd(spec.ssh_user))},
                provisional_s=_PROVISIONAL_S,
                parent=self,
                depends_on=[self.ready],
            )
        self.register_outputs({})


def render_sysctl() -> str:
    """The kernel's settings, one a line."""
    return "".join(f"{key} = {value}\n" for key, value in (LIMITS | DEFENCES | BRIDGE).items())  # type: ignore[operator]


#: What a value was before is kept, so that it can be given back without a reboot.
KERNEL_DO = f"""\
modprobe br_netfilter || fail "The kernel of this host has no br_netfilter, which keeps instances apart: boot Debian's."
touch "$record/values"
while read -r key _ value; do
  [[ -e /proc/sys/${{key//.//}} ]] || continue
  grep -q "^$key " "$record/values" || printf '%s %s\\n' "$key" "$(sysctl --values "$key")" >>"$record/values"
done <{_SYSCTL}
sysctl --quiet --ignore --load={_SYSCTL}
"""
KERNEL_UNDO = """\
touch "$record/values"
while read -r key value; do sysctl --quiet --ignore --write "$key=$value" || true; done <"$record/values"
"""
KERNEL_CHECK = f"""\
while read -r key _ value; do
  # A kernel may lack some.
  grep -q "^$key " "$record/values" || continue
  [[ $(sysctl --values "$key" 2>/dev/null) == "$value" ]] || echo "the kernel's $key is not $value"
done <{_SYSCTL}
"""

#: One that somebody chose stays.
CLOCK_DO = """\
others="chrony ntp ntpsec openntpd"
for other in $others; do
  if systemctl --quiet is-active "$other.service"; then exit; fi
done
apt_install systemd-timesyncd
systemctl --quiet enable --now systemd-timesyncd.service
"""
CLOCK_CHECK = """\
for service in chrony ntp ntpsec openntpd systemd-timesyncd; do
  if systemctl --quiet is-active "$service.service"; then exit; fi
done
echo "nothing keeps the clock right"
"""

UPDATES_DO = """\
apt_install unattended-upgrades
systemctl --quiet enable --now apt-daily.timer apt-daily-upgrade.timer
"""
UPDATES_CHECK = """\
for timer in apt-daily apt-daily-upgrade; do
  systemctl --quiet is-active "$timer.timer" || echo "$timer.timer does not run, so no security update comes"
done
"""


def render_updates() -> str:
    """Settings of apt: security updates come by themselves, a reboot does not."""
    return """\
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
APT::Periodic::AutocleanInterval "7";
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Remove-Unused-Kernel-Packages "true";
"""


BANS_DO = """\
apt_install fail2ban python3-systemd nftables
if ! refusal=$(fail2ban-client --test 2>&1); then
  fail "fail2ban on this host does not take its settings: ${refusal##*$'\\n'}"
fi
systemctl --quiet enable fail2ban.service
systemctl restart fail2ban.service
for try in {1..60}; do
  if fail2ban-client status zaki >/dev/null 2>&1; then exit; fi
  sleep 1
done
fail "fail2ban does not start on this host: see \\`journalctl -u fail2ban\\` there."
"""
BANS_UNDO = """\
restore_files
if systemctl --quiet is-active fail2ban.service; then systemctl restart fail2ban.service; fi
"""
BANS_CHECK = """\
systemctl --quiet is-enabled fail2ban.service || echo "fail2ban.service is not started at boot"
for jail in sshd zaki; do
  fail2ban-client status "$jail" >/dev/null 2>&1 || echo "fail2ban has no jail $jail"
done
"""


def render_jails(spec: HardeningSpec) -> str:
    """Settings of fail2ban: who is watched, and whom no ban may hit."""
    spared = " ".join(("127.0.0.0/8", "::1", str(spec.subnet), _TAILNET, *_TELEGRAM))
    return f"""\
[DEFAULT]
backend = systemd
banaction = nftables-multiport
banaction_allports = nftables-allports
findtime = 10m
bantime = 1h
maxretry = {spec.tries}
ignoreip = {spared}

[sshd]
enabled = true

[zaki]
enabled = true
filter = zaki
port = http,https
journalmatch = _SYSTEMD_UNIT={FRONT_UNIT}
"""


def render_filter() -> str:
    """The one line that the front writes of a refused webhook or log-in."""
    return f"""\
[Definition]
failregex = ^{REFUSED_LINE}$
prefregex = ^(?:\\S+ )?\\S+\\[\\d+\\]: <F-CONTENT>.+</F-CONTENT>$
"""


def render_sshd(user: str) -> str:
    """Settings of sshd: keys alone, and root not at all, unless it is root who manages the host."""
    return f"""\
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
# Of the ten that may be without a log-in before others are turned away, nobody holds all.
PerSourceMaxStartups 8
PermitRootLogin {_root_login(user)}
PubkeyAuthentication yes
X11Forwarding no
"""


def render_sshd_do(user: str) -> str:
    """Let sshd take its new settings, if they are what comes of all its files."""
    return f"""\
grep -qiE '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\\.d/\\*\\.conf' /etc/ssh/sshd_config ||
  fail "/etc/ssh/sshd_config on this host does not begin with 'Include /etc/ssh/sshd_config.d/*.conf': add it."
mkdir -p /run/sshd
if ! refusal=$(sshd -t 2>&1); then
  fail "sshd on this host does not take its settings: ${{refusal##*$'\\n'}}"
fi
{_sshd_wanted(user)}
while read -r key value; do
  [[ $(sshd -T | awk -v key="$key" '$1 == key {{ print $2 }}') == "$value" ]] ||
    fail "Another file of sshd on this host sets $key before {_SSHD} does: take it out there."
done <<<"$wanted"
# One that a socket starts for each log-in does not run, and reads them then.
systemctl try-reload-or-restart ssh.service
"""


def render_sshd_check(user: str) -> str:
    """Say which setting of sshd is another one now, and whether it runs."""
    return f"""\
systemctl --quiet is-active ssh.service ssh.socket || echo "sshd does not run"
{_sshd_wanted(user)}
said=$(sshd -T 2>/dev/null)
while read -r key value; do
  [[ $(awk -v key="$key" '$1 == key {{ print $2 }}' <<<"$said") == "$value" ]] || echo "sshd's $key is not $value"
done <<<"$wanted"
"""


#: Its files first: while sshd reads them, ours must be gone.
SSHD_UNDO = """\
restore_files
sshd -t && systemctl try-reload-or-restart ssh.service
"""


def _sshd_wanted(user: str) -> str:
    wanted = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": "without-password" if user == "root" else "no",
    }
    return "wanted=" + shlex.quote("\n".join(f"{key} {value}" for key, value in wanted.items()))


def _root_login(user: str) -> str:
    return "prohibit-password" if user == "root" else "no"
