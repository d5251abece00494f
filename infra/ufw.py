"""The public side of a host: UFW, which lets in SSH and HTTPS and nothing else.

A change is undone by the machine itself after two minutes unless it is confirmed over a connection that was made after
it, so that nobody is locked out. Rules that are not ours stay as they are: ours have the comment `zaki`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import pulumi

from infra.spec import HostSpec
from infra.steps import HostFile, Steps

PROGRAM = "/usr/local/lib/zaki/ufw"
#: Seconds after which a change that nobody confirmed is undone.
UNDO_AFTER = 120


@dataclass(frozen=True, slots=True)
class UfwSpec:
    """What may come in."""

    bridge: str
    #: The host's address on the bridge.
    gateway: IPv4Address
    #: What instances may reach there: whom, is for the firewall of instances to say.
    instance_ports: Sequence[int]
    ssh_port: int = 22
    #: Whether somebody must reach port 80: Caddy, where it proves by HTTP whose the name is.
    http: bool = False
    folder: str = "/var/lib/zaki/ufw"

    @classmethod
    def of(cls, host: HostSpec, ssh_port: int = 22, *, http: bool = False) -> UfwSpec:
        """The public side of a declared host."""
        ports = (8081, *host.proxy_ports.values())
        return cls(bridge=host.bridge, gateway=host.gateway, instance_ports=ports, ssh_port=ssh_port, http=http)


def render_rules(spec: UfwSpec) -> list[str]:
    """The rules in their order, as `ufw show added` prints them; SSH is always the first."""
    inside = f"allow in on {spec.bridge} to {spec.gateway} port"
    return [
        f"limit {spec.ssh_port}/tcp",
        "allow 443/tcp",
        *(["allow 80/tcp"] if spec.http else []),
        *(f"{inside} {port} proto tcp" for port in spec.instance_ports),
        f"{inside} 53",
        # What leaves the bridge is decided before UFW, and a drop there is final.
        f"route allow in on {spec.bridge}",
    ]


def render_program(spec: UfwSpec) -> str:
    """The program that keeps them: `apply`, `confirm`, `status`, `remove`, and `undo` for the timer."""
    rules = "\n".join(render_rules(spec))
    return f"""\
#!/bin/bash
# The public side of a Zaki host. A change is undone after {UNDO_AFTER} s unless `confirm` comes over a new connection.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
kept={spec.folder}
rules=$(cat <<'RULES'
{rules}
RULES
)

added() {{ ufw show added | sed -n 's/^ufw //p'; }}
ours() {{ added | sed -n "s/ comment 'zaki'$//p"; }}
others() {{ added | grep -v " comment 'zaki'$" | sed "s/ comment '.*'$//" || true; }}
active() {{ ufw status | grep -q '^Status: active'; }}
# A rule without its verdict: UFW keeps one rule for each, and ours must not take somebody else's place.
about() {{ sed -E 's/^(route )?(allow|deny|reject|limit) /\\1/'; }}

wanted() {{ # what of the rules is for us to add
  local rule
  while read -r rule; do
    others | about | grep -qxF -- "$(about <<<"$rule")" || echo "$rule"
  done <<<"$rules"
}}

as_wanted() {{
  active && [[ $(ours | sort) == "$(wanted | sort)" ]] &&
    grep -q '^DEFAULT_INPUT_POLICY="DROP"' /etc/default/ufw &&
    grep -q '^DEFAULT_OUTPUT_POLICY="ACCEPT"' /etc/default/ufw
}}

drop() {{ # RULE of ours
  local words
  read -ra words <<<"$1"
  if [[ ${{words[0]}} == route ]]; then ufw route delete "${{words[@]:1}}"; else ufw --force delete "${{words[@]}}"; fi
}}

remember() {{ # how it was: once for `remove`, and before each change for `undo`
  install -d -m 0700 "$1.new"
  cp -p /etc/ufw/user.rules /etc/ufw/user6.rules /etc/default/ufw "$1.new/"
  if active; then touch "$1.new/active"; fi
  rm -rf "$1"
  mv "$1.new" "$1"
}}

arm() {{
  systemctl stop zaki-ufw-undo.timer 2>/dev/null || true
  systemd-run --quiet --collect --on-active={UNDO_AFTER} --timer-property=AccuracySec=1s --unit=zaki-ufw-undo \\
    "$0" undo
}}

case ${{1-}} in
  apply)
    if as_wanted; then exit 0; fi
    install -d -m 0700 "$kept"
    [[ -e $kept/first ]] || remember "$kept/first"
    # A change that waits for its confirmation is undone together with this one.
    [[ -e $kept/before ]] || remember "$kept/before"
    arm
    wanted | while read -r rule; do
      # shellcheck disable=SC2086
      ufw $rule comment zaki
    done
    ours | while read -r rule; do
      wanted | grep -qxF -- "$rule" || drop "$rule"
    done
    ufw default deny incoming
    ufw default allow outgoing
    ufw --force enable
    as_wanted || {{ echo "UFW does not show the rules that it was given: compare 'ufw show added'." >&2; exit 1; }}
    ;;
  confirm)
    if ! as_wanted; then
      "$0" apply
      echo "The change of UFW was undone before it was confirmed, and is made again: run 'up' to confirm it." >&2
      exit 1
    fi
    systemctl stop zaki-ufw-undo.timer 2>/dev/null || true
    rm -rf "$kept/before"
    ;;
  undo)
    [[ -e $kept/before ]] || exit 0
    cp -p "$kept/before/user.rules" "$kept/before/user6.rules" /etc/ufw/
    cp -p "$kept/before/ufw" /etc/default/ufw
    if [[ -e $kept/before/active ]]; then ufw reload; else ufw --force disable; fi
    rm -rf "$kept/before"
    ;;
  remove)
    if [[ -e $kept/first ]] && ! [[ -e $kept/first/active ]]; then ufw --force disable; fi
    ours | while read -r rule; do drop "$rule"; done
    if [[ -e $kept/first ]]; then
      while IFS='=' read -r name value; do
        sed -i "s/^$name=.*/$name=$value/" /etc/default/ufw
      done < <(grep -E '^DEFAULT_(INPUT|OUTPUT)_POLICY=' "$kept/first/ufw")
      if [[ -e $kept/first/active ]]; then ufw reload; fi
    fi
    systemctl stop zaki-ufw-undo.timer 2>/dev/null || true
    rm -rf "$kept"
    ;;
  status) as_wanted || {{ echo "UFW is not as declared." >&2; exit 1; }} ;;
  *) echo "Usage: ufw apply|confirm|status|remove|undo" >&2; exit 2 ;;
esac
"""


_APPLY = f"""\
command -v ufw >/dev/null || {{ apt-get -o DPkg::Lock::Timeout=600 update &&
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends ufw; }}
{PROGRAM} apply
"""

_REMOVE = f"""\
if [ -x {PROGRAM} ]; then {PROGRAM} remove; fi
rm -f {PROGRAM}
"""


class PublicSide(pulumi.ComponentResource):
    """UFW on a host; two steps, so that the second one's connection proves that people still get in."""

    confirmed: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: UfwSpec,
        steps: Steps,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:PublicSide", name, None, opts)
        program = HostFile(render_program(spec), mode=0o755)
        applied = steps.run("ufw", _APPLY, undo=_REMOVE, files={PROGRAM: program}, parent=self, depends_on=depends_on)
        # The rules as a comment: whoever changes them confirms them anew.
        marks = "".join(f"# {rule}\n" for rule in render_rules(spec))
        self.confirmed = steps.run("ufw-confirmed", f"{marks}{PROGRAM} confirm\n", parent=self, depends_on=[applied])
        self.register_outputs({})
