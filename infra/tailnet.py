"""The host on the operators' tailnet (Tailscale): their log-in page is there, and SSH too, where it may be there alone.

Its package is Tailscale's own, from a repository whose key is known beforehand. One that is there already, and logged
in, stays as it is. SSH is closed to everybody else only by a run that itself came over the tailnet, is taken back
where the next one does not get in, and is open to everybody while the tailnet is away: nobody is locked out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pulumi

from infra.configuration import PROJECT, Configuration, SpecError
from infra.steps import HostFile, Steps
from infra.target import Target

#: Tailscale's addresses of its members.
NETWORKS = (ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48"))
REPOSITORY = "https://pkgs.tailscale.com/stable/debian"
#: Of the key that signs it, as others have pinned it too.
FINGERPRINT = "2596A99EAAB33821893C0A79458CA832957F5868"

KEYRING = "/etc/apt/keyrings/zaki-tailscale.gpg"
SOURCES = "/etc/apt/sources.list.d/zaki-tailscale.list"
PROGRAM = "/usr/local/lib/zaki/tailnet-ssh"
_TIMER = "zaki-tailnet-ssh.timer"
_UNITS = "/etc/systemd/system"
#: Seconds in which a new log-in has to come after SSH was closed to others.
_PROVISIONAL_S = 120

_KEY = re.compile(r"[!-~]{8,512}")
_REPOSITORY = re.compile(r"https?://[A-Za-z0-9.:/_-]+")


#: What its secret is called in the configuration.
KEY = "tailscale_key"


@dataclass(frozen=True, slots=True)
class TailnetSpec:
    """What of a host is on the tailnet."""

    #: Who logs in over SSH to manage the host, and where sshd listens; None where nobody does.
    ssh_user: str | None = None
    ssh_port: int = 22
    #: Whether SSH is to be reached there only.
    ssh_only: bool = False
    #: The front's public side.
    front: str = "127.0.0.1:8080"
    repository: str = REPOSITORY
    fingerprint: str = FINGERPRINT

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository) or not re.fullmatch(r"[0-9A-F]{40}", self.fingerprint):
            raise SpecError("Tailscale's repository is told by an http(s) URL and its key's fingerprint in capitals.")
        if self.ssh_only and self.ssh_user is None:
            raise SpecError(
                f"{PROJECT}:tailscale_ssh_only needs {PROJECT}:host_target; this machine's own SSH is left alone."
            )

    @classmethod
    def from_config(cls, config: Configuration, target: Target | None) -> TailnetSpec | None:
        """Read `tailscale` and what belongs to it; None: the host is on no tailnet.

        The key itself is only looked at: it goes to :class:`Tailnet` as a secret.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        wanted, ssh_only = _boolean(config, "tailscale"), _boolean(config, "tailscale_ssh_only")
        if not wanted:
            if ssh_only:
                raise SpecError(
                    f"{PROJECT}:tailscale_ssh_only is set and {PROJECT}:tailscale is not; set it to true, or SSH could "
                    "be reached from nowhere."
                )
            return None
        key = config.get(KEY)
        if not key:
            raise SpecError(
                f"{PROJECT}:tailscale_key is unset, and without an auth key the host does not get onto the tailnet; "
                f"make one in Tailscale's admin console and run `pulumi config set --secret {PROJECT}:tailscale_key`."
            )
        if not _KEY.fullmatch(key):
            raise SpecError(
                f"{PROJECT}:tailscale_key is no auth key of Tailscale; set it again, in one line without spaces."
            )
        if target is None:
            return cls(ssh_only=ssh_only)
        return cls(ssh_user=target.user, ssh_port=target.port, ssh_only=ssh_only)


def is_on_tailnet(target: Target) -> bool:
    """Whether the host is managed over the tailnet, as far as its address or name tells."""
    try:
        address = ip_address(target.host)
    except ValueError:
        return target.host.endswith(".ts.net")
    return any(address in network for network in NETWORKS)


def _boolean(config: Configuration, key: str) -> bool:
    text = config.get(key) or "false"
    if text not in ("true", "false"):
        raise SpecError(f"{PROJECT}:{key} is {text!r}; give true or false.")
    return text == "true"


#: Bash: what the daemon says of itself, `Running` where the host is on the tailnet.
_STATE = """\
state() {
  { tailscale status --json --peers=false 2>/dev/null || true; } |
    python3 -c 'import json, sys; print(json.load(sys.stdin).get("BackendState", ""))' 2>/dev/null || true
}
"""


def render_do(spec: TailnetSpec) -> str:
    """The step's script, which reads the auth key from its standard input."""
    return f"""\
{_STATE}
key=$(cat) work= file=
clean() {{
  rm -rf "$work" "$file"
  # A repository that does not work would stop every other step.
  command -v tailscale >/dev/null || rm -f {SOURCES} {KEYRING}
}}
trap clean EXIT
primary_keys() {{
  GNUPGHOME=$work gpg --batch --show-keys --with-colons "$work/key" 2>/dev/null |
    awk -F: '$1 == "pub" {{ primary = 1 }} $1 == "fpr" && primary {{ print $10; primary = 0 }}'
}}
if ! command -v tailscale >/dev/null; then
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt_install ca-certificates gnupg
  work=$(mktemp -d)
  /usr/lib/apt/apt-helper download-file "{spec.repository}/$suite.noarmor.gpg" "$work/key" >/dev/null ||
    fail "The key of Tailscale's packages cannot be had from {spec.repository}: see whether this host reaches it."
  [[ $(primary_keys) == {spec.fingerprint} ]] ||
    fail "What {spec.repository} gives out is not the key that signs Tailscale's packages: nothing of it is installed."
  install -D -m 0644 "$work/key" {KEYRING}
  echo "deb [signed-by={KEYRING}] {spec.repository} $suite main" >{SOURCES}
  apt_install tailscale
fi
systemctl --quiet enable --now tailscaled.service ||
  fail "Tailscale does not start: see \\`journalctl -u tailscaled\\` on this host."
for try in {{1..30}}; do
  found=$(state)
  case $found in "" | NoState | Starting) sleep 1 ;; *) break ;; esac
done
if [[ $found != Running ]]; then
  mkdir -p -m 0700 /run/zaki-steps
  file=$(umask 077; mktemp /run/zaki-steps/tailscale-XXXXXX)
  printf %s "$key" >"$file"
  touch "$record/joined"
  said=$(tailscale up --auth-key="file:$file" --accept-dns=false --accept-routes=false --timeout=60s 2>&1) || {{
    said=${{said//"$key"/…}}
    fail "Tailscale does not let this host in (${{said##*$'\\n'}}): make a new auth key in its admin console and run \
\\`pulumi config set --secret zaki:tailscale_key\\`."
  }}
fi
touch "$record/served"
said=$(tailscale serve --bg --http=80 --set-path=/admin http://{spec.front}/admin 2>&1) ||
  fail "Tailscale does not show the operators' log-in (${{said##*$'\\n'}}): see \\`tailscale serve status\\` there."
"""


def render_undo(spec: TailnetSpec) -> str:
    """Leave the tailnet, where it was this step that joined it."""
    guard = ""
    if spec.ssh_user is not None:
        guard = f"""\
{came_over_tailnet(spec.ssh_user)}
if [[ -e $record/joined ]] && came_over_tailnet; then
  fail "This host is managed over the tailnet, which it would leave: set zaki:host_target to another address of it and \
run \\`zaki host up\\`, then take it off the tailnet."
fi
"""
    return f"""\
{guard}\
if command -v tailscale >/dev/null; then
  if [[ -e $record/served ]]; then tailscale serve --http=80 --set-path=/admin off || true; fi
  if [[ -e $record/joined ]]; then tailscale logout || true; fi
fi
rm -f {SOURCES} {KEYRING}
"""


CHECK = f"""\
{_STATE}
systemctl --quiet is-enabled tailscaled.service || echo "tailscaled.service is not started at boot"
found=$(state)
[[ $found == Running ]] || echo "this host is not on the tailnet (${{found:-tailscaled does not answer}})"
"""


def tailnet_files(spec: TailnetSpec) -> dict[str, HostFile]:
    """Settings of apt: that repository brings one package, with its security updates."""
    origin = spec.repository.partition("://")[2].partition("/")[0].partition(":")[0]
    return {
        "/etc/apt/preferences.d/zaki-tailscale": HostFile(
            f"Package: *\nPin: origin {origin}\nPin-Priority: -1\n\n"
            f"Package: tailscale tailscale-archive-keyring\nPin: origin {origin}\nPin-Priority: 500\n"
        ),
        "/etc/apt/apt.conf.d/53zaki-tailscale": HostFile(f'Unattended-Upgrade::Origins-Pattern:: "site={origin}";\n'),
    }


def came_over_tailnet(user: str) -> str:
    """Bash: whether the last log-in of who manages the host came over the tailnet; it is the one that this runs by."""
    return f"""\
came_over_tailnet() {{
  local from
  from=$(journalctl --quiet --no-pager --boot --output=cat --lines=1 --grep='^Accepted publickey for {user} from ' \\
    _UID=0 SYSLOG_IDENTIFIER=sshd SYSLOG_IDENTIFIER=sshd-session || true)
  [[ $from =~ \\ from\\ (100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\\.|fd7a:115c:a1e0:) ]]
}}
"""


def render_ssh_program(spec: TailnetSpec) -> str:
    """The program that closes SSH to others, as long as the host is on the tailnet."""
    return f"""\
#!/bin/bash
# SSH of this Zaki host over its tailnet only: `keep` it so, `open` it to everybody, or tell its `status`.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
{_STATE}
closed() {{ nft list table inet zaki_ssh >/dev/null 2>&1; }}
open() {{ if closed; then nft delete table inet zaki_ssh; fi; }}

case ${{1-}} in
  keep)
    # While nobody gets in over the tailnet, its key may have ended.
    if [[ $(state) == Running ]]; then
      nft --file - <<'TABLE'
table inet zaki_ssh
delete table inet zaki_ssh
table inet zaki_ssh {{
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iifname {{ "lo", "tailscale0" }} accept
    ct state established,related accept
    tcp dport {spec.ssh_port} drop
  }}
}}
TABLE
    else
      open
    fi
    ;;
  open) open ;;
  status) closed || echo "SSH is open to everybody, and not on the tailnet only" ;;
  *) echo "Usage: tailnet-ssh keep|open|status" >&2; exit 2 ;;
esac
"""


_KEEP = f"""\
[Unit]
Description=Keep SSH of this Zaki host on its tailnet, while there is one
After=tailscaled.service

[Service]
Type=oneshot
ExecStart={PROGRAM} keep
"""

_KEEP_TIMER = """\
[Unit]
Description=Keep SSH of this Zaki host on its tailnet, while there is one

[Timer]
OnBootSec=1min
OnUnitActiveSec=1min
AccuracySec=5

[Install]
WantedBy=timers.target
"""


def ssh_files(spec: TailnetSpec) -> dict[str, HostFile]:
    """Everything that keeps SSH to the tailnet, by path."""
    return {
        PROGRAM: HostFile(render_ssh_program(spec), mode=0o755),
        f"{_UNITS}/{_TIMER.replace('.timer', '.service')}": HostFile(_KEEP),
        f"{_UNITS}/{_TIMER}": HostFile(_KEEP_TIMER),
    }


def render_ssh_do(user: str) -> str:
    """Close SSH to others where this run came over the tailnet, and leave it open where not."""
    return f"""\
{came_over_tailnet(user)}
apt_install nftables
systemctl daemon-reload
if came_over_tailnet; then
  touch "$record/closed"
  {PROGRAM} keep
  systemctl --quiet enable --now {_TIMER}
else
  rm -f "$record/closed"
  systemctl --quiet disable --now {_TIMER}
  {PROGRAM} open
fi
"""


def render_ssh_check(user: str) -> str:
    """Says whether SSH is open to everybody, and why."""
    return f"""\
if [[ -e $record/closed ]]; then
  systemctl --quiet is-active {_TIMER} || echo "{_TIMER} does not run"
  {PROGRAM} status
else
  echo "SSH is open to everybody, because \\`zaki host up\\` did not come over the tailnet: set zaki:host_target to \
ssh://{user}@$(tailscale ip -4 2>/dev/null | head -n 1)"
fi
"""


SSH_UNDO = f"""\
systemctl --quiet disable --now {_TIMER} || true
if [[ -x {PROGRAM} ]]; then {PROGRAM} open; fi
"""


class Tailnet(pulumi.ComponentResource):
    """The host on the tailnet; `ready` once it is there, and SSH with it where it may be."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: TailnetSpec,
        steps: Steps,
        key: pulumi.Input[str],
        *,
        target: Target | None = None,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare it.

        Args:
            name: Of the component.
            spec: What of the host is there.
            steps: The machine.
            key: The auth key, a secret; needed where the host is not on the tailnet yet.
            target: How the machine is reached.
            depends_on: UFW, or it would take away what was let in here.
            opts: Of the component.
        """
        super().__init__("zaki:index:Tailnet", name, None, opts)
        self.ready = steps.run(
            "tailnet",
            render_do(spec),
            undo=render_undo(spec),
            check=CHECK,
            files=tailnet_files(spec),
            secret=key,
            parent=self,
            depends_on=depends_on,
        )
        if spec.ssh_only and spec.ssh_user is not None:
            if target is not None and not is_on_tailnet(target):
                pulumi.log.warn(
                    f"SSH of {target.host} stays open to everybody until it is managed over the tailnet: once the host "
                    f"is there, set {PROJECT}:host_target to ssh://{target.user}@ and its address there, which begins "
                    "with 100.",
                    self,
                )
            self.ready = steps.run(
                "tailnet-ssh",
                render_ssh_do(spec.ssh_user),
                undo=SSH_UNDO,
                check=render_ssh_check(spec.ssh_user),
                files=ssh_files(spec),
                provisional_s=_PROVISIONAL_S,
                parent=self,
                depends_on=[self.ready],
            )
        self.register_outputs({})
