"""The public side of a host: UFW, which lets in SSH and HTTPS and nothing else.

The step takes itself back after two minutes unless a connection comes in that was made after it, so that nobody is
locked out. Rules that are not ours stay as they are: ours have the comment `zaki`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import pulumi

from infra.spec import HostSpec
from infra.steps import HostFile, Steps

PROGRAM = "/usr/local/lib/zaki/ufw"
#: Seconds in which a new log-in has to come after a change.
_PROVISIONAL_S = 120


@dataclass(frozen=True, slots=True)
class UfwSpec:
    """What may come in."""

    bridge: str
    #: The host's address on the bridge.
    gateway: IPv4Address
    #: What instances may reach there: whom, is for the firewall of instances to say.
    instance_ports: Sequence[int]
    #: Whether somebody must reach port 80: Caddy, where it proves by HTTP whose the name is.
    http: bool = False
    folder: str = "/var/lib/zaki/ufw"

    @classmethod
    def of(cls, host: HostSpec, *, http: bool = False) -> UfwSpec:
        """The public side of a declared host."""
        ports = (8081, *host.proxy_ports.values())
        return cls(bridge=host.bridge, gateway=host.gateway, instance_ports=ports, http=http)


def render_rules(spec: UfwSpec) -> list[str]:
    """The rules in their order, as `ufw show added` prints them; those for SSH come before them.

    SSH is limited by the firewall's own table (`infra/firewall.py`) and by fail2ban.
    """
    inside = f"allow in on {spec.bridge} to {spec.gateway} port"
    return [
        "allow 443/tcp",
        *(["allow 80/tcp"] if spec.http else []),
        *(f"{inside} {port} proto tcp" for port in spec.instance_ports),
        f"{inside} 53",
        # What leaves the bridge is decided before UFW, and a drop there is final.
        f"route allow in on {spec.bridge}",
    ]


def render_program(spec: UfwSpec) -> str:
    """The program that keeps them: `apply`, `status` or `remove`."""
    first, *_ = rules = render_rules(spec)
    listed = "\n".join(rules)
    return f"""\
#!/bin/bash
# The public side of a Zaki host: `apply` its rules, tell their `status`, `remove` them.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
before={spec.folder}
# Wherever sshd listens, which is not where the way from outside has to begin.
rules=$(
  sshd -T | awk '$1 == "port" {{ print "allow " $2 "/tcp" }}'
  cat <<'RULES'
{listed}
RULES
)
if [[ $rules != allow\\ *$'\n'"{first}"* ]]; then
  echo "sshd does not say where it listens: try \\`sshd -T\\` on this host." >&2
  exit 1
fi

added() {{ ufw show added | sed -n 's/^ufw //p'; }}
ours() {{ added | sed -n "s/ comment 'zaki'$//p"; }}
others() {{ added | grep -v " comment 'zaki'$" | sed "s/ comment '.*'$//" || true; }}
active() {{ [[ $(ufw status) == "Status: active"* ]]; }}
defaults() {{ grep -E '^DEFAULT_(INPUT|OUTPUT)_POLICY=' "$1"; }}
# A rule without its verdict: UFW keeps one rule for each, and ours must not take somebody else's place.
about() {{ sed -E 's/^(route )?(allow|deny|reject|limit) /\\1/'; }}

wanted() {{ # what of the rules is for us to add
  local rule taken
  taken=$(others | about)
  while read -r rule; do
    grep -qxF -- "$(about <<<"$rule")" <<<"$taken" || echo "$rule"
  done <<<"$rules"
}}

drop() {{ # RULE of ours
  local words
  read -ra words <<<"$1"
  if [[ ${{words[0]}} == route ]]; then ufw route delete "${{words[@]:1}}"; else ufw --force delete "${{words[@]}}"; fi
}}

differences() {{
  active || echo "UFW is off"
  comm -13 <(ours | sort) <(wanted | sort) | sed 's/.*/UFW lacks the rule: &/'
  comm -23 <(ours | sort) <(wanted | sort) | sed 's/.*/UFW has a rule too many: &/'
  [[ $(defaults /etc/default/ufw) == $'DEFAULT_INPUT_POLICY="DROP"\\nDEFAULT_OUTPUT_POLICY="ACCEPT"' ]] ||
    echo "UFW does not deny what comes in and allow what goes out by default"
}}

case ${{1-}} in
  apply)
    if ! [[ -e $before ]]; then
      install -d -m 0700 "$before.new"
      cp -p /etc/default/ufw "$before.new/"
      if active; then touch "$before.new/active"; fi
      mv "$before.new" "$before"
    fi
    # SSH is the first of them, and there before anything is denied.
    wanted=$(wanted)
    while read -r rule; do
      # shellcheck disable=SC2086
      [[ -z $rule ]] || ufw $rule comment zaki
    done <<<"$wanted"
    ours | while read -r rule; do
      grep -qxF -- "$rule" <<<"$wanted" || drop "$rule"
    done
    ufw default deny incoming
    ufw default allow outgoing
    ufw --force enable
    left=$(differences)
    [[ -z $left ]] || {{ echo "$left" >&2; exit 1; }}
    ;;
  remove)
    if [[ -e $before && ! -e $before/active ]]; then ufw --force disable; fi
    ours | while read -r rule; do drop "$rule"; done
    if [[ -e $before ]]; then
      while IFS='=' read -r name value; do
        sed -i "s/^$name=.*/$name=$value/" /etc/default/ufw
      done < <(defaults "$before/ufw")
      if [[ -e $before/active ]]; then ufw reload; fi
      rm -r "$before"
    fi
    ;;
  status) differences ;;
  *) echo "Usage: ufw apply|status|remove" >&2; exit 2 ;;
esac
"""


_DO = f"""\
apt_install ufw
left=$({PROGRAM} apply 2>&1) || fail "UFW does not take the rules of this host: ${{left##*$'\\n'}}"
"""


#: Of a step that failed early there may be neither.
_UNDO = f"if [[ -x {PROGRAM} ]] && command -v ufw >/dev/null; then {PROGRAM} remove; fi\n"


class PublicSide(pulumi.ComponentResource):
    """UFW on a host; `ready` once people were seen to get in still."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: UfwSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:PublicSide", name, None, opts)
        self.ready = steps.run(
            "ufw",
            _DO,
            undo=_UNDO,
            check=f"{PROGRAM} status\n",
            files={PROGRAM: HostFile(render_program(spec), mode=0o755)},
            provisional_s=_PROVISIONAL_S,
            parent=self,
            depends_on=depends_on,
        )
        self.register_outputs({})
