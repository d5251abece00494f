"""Docker Engine on a host, from Debian, set so that a restart of it ends no instance and no log fills the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

import pulumi

from infra.steps import Steps

_SETTINGS = "/etc/docker/daemon.json"
_RULES = "iptables --wait --table nat --list-rules DOCKER >/dev/null 2>&1"

#: Merges our settings into those that are there, and remembers what each of ours replaced.
_MERGE = """\
python3 - "$record/replaced.json" <<'PYTHON'
import json, os, sys
from pathlib import Path

ours = json.loads({ours!r})
file, memory = Path({file!r}), Path(sys.argv[1])
try:
    found = json.loads(file.read_text() or "{{}}") if file.exists() else {{}}
except ValueError:
    sys.exit("{file} on this host is no JSON: mend it, then try again.")
replaced = {{"file": file.exists(), "values": {{}}, "ours": {{}}}}
if memory.exists():
    replaced = json.loads(memory.read_text())
for key, value in ours.items():
    if key not in replaced["ours"]:
        replaced["values"][key] = [found[key]] if key in found else []
    replaced["ours"][key] = value
merged = found | ours
memory.write_text(json.dumps(replaced))
if merged != found:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".zaki-new")
    draft.write_text(json.dumps(merged, indent=2) + "\\n")
    # A stop before Docker starts anew must not lose that it has to.
    Path(sys.argv[1]).with_name("restart").touch()
    os.replace(draft, file)
PYTHON
"""

#: Gives back what ours replaced, and leaves what somebody else has changed since.
_UNMERGE = """\
python3 - "$record/replaced.json" <<'PYTHON'
import json, os, sys
from pathlib import Path

file, memory = Path({file!r}), Path(sys.argv[1])
if memory.exists() and file.exists():
    replaced, found = json.loads(memory.read_text()), json.loads(file.read_text() or "{{}}")
    for key, value in replaced["ours"].items():
        if key in found and found[key] == value:
            del found[key]
            if replaced["values"][key]:
                found[key] = replaced["values"][key][0]
    if found or replaced["file"]:
        draft = file.with_suffix(".zaki-new")
        draft.write_text(json.dumps(found, indent=2) + "\\n")
        os.replace(draft, file)
    else:
        file.unlink()
PYTHON
"""


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """How Docker Engine is set."""

    #: Of each container's log, as Docker writes sizes, and how many files of that size.
    log_size: str = "10m"
    log_files: int = 3
    #: From which Docker gives networks their addresses, where nobody asks for certain ones; apart from the instances'.
    pool: IPv4Network = field(default=IPv4Network("172.20.0.0/14"))
    pool_prefix: int = 24


class Runtime(pulumi.ComponentResource):
    """Docker Engine; `ready` is what has to be there before the first container."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: RuntimeSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Runtime", name, None, opts)
        self.ready = steps.run(
            "docker",
            render_do(spec),
            undo=render_undo(),
            check=render_check(spec),
            parent=self,
            depends_on=depends_on,
        )
        self.register_outputs({})


def render_settings(spec: RuntimeSpec) -> Mapping[str, Any]:
    """Our part of Docker's `daemon.json`."""
    return {
        "default-address-pools": [{"base": str(spec.pool), "size": spec.pool_prefix}],
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": str(spec.log_files), "max-size": spec.log_size},
        "userland-proxy": False,
    }


def render_do(spec: RuntimeSpec) -> str:
    """Install Docker where there is none, then let it run with our settings."""
    merge = _MERGE.format(ours=json.dumps(render_settings(spec), sort_keys=True), file=_SETTINGS)
    return f"""\
apt_install python3
{merge}
# Docker starts no container without it where the kernel has AppArmor, and Debian only recommends it.
command -v apparmor_parser >/dev/null || apt_install apparmor
command -v dockerd >/dev/null || apt_install docker.io
command -v docker >/dev/null || apt_install docker-cli
# Debian 12's cannot try its settings.
if dockerd --help | grep --quiet -- --validate && ! refusal=$(dockerd --validate --config-file {_SETTINGS} 2>&1); then
  fail "Docker on this host does not take the settings in {_SETTINGS}: ${{refusal##*$'\\n'}}"
fi
if [[ -e $record/restart ]] && systemctl --quiet is-active docker.service; then
  # Containers outlive the restart only once live-restore is on.
  systemctl reload docker.service
  systemctl restart docker.service || fail "Docker does not start: see \\`journalctl -u docker\\` on this host."
fi
rm -f "$record/restart"
systemctl --quiet enable --now docker.service ||
  fail "Docker does not start: see \\`journalctl -u docker\\` on this host."
# Somebody who flushes the kernel's tables takes Docker's rules with them, and Docker makes them at its start alone.
{_RULES} || systemctl restart docker.service ||
  fail "Docker does not start: see \\`journalctl -u docker\\` on this host."
timeout 120 docker version >/dev/null ||
  fail "Docker does not answer: see \\`journalctl -u docker\\` on this host."
"""


def render_undo() -> str:
    """Give Docker its own settings back; the engine itself goes where the step has brought it, its data stay."""
    return f"""\
{_UNMERGE.format(file=_SETTINGS)}
if systemctl --quiet is-active docker.service; then systemctl restart docker.service; fi
"""


def render_check(spec: RuntimeSpec) -> str:
    """Say whether Docker runs, at the next boot too, and with our settings."""
    ours = json.dumps(render_settings(spec), sort_keys=True)
    return f"""\
systemctl --quiet is-enabled docker.service || echo "docker.service is not started at boot"
if ! systemctl --quiet is-active docker.service; then
  echo "docker.service does not run"
elif ! {_RULES}; then
  echo "Docker's rules are gone from the kernel, so containers reach nothing"
fi
python3 - <<'PYTHON'
import json
from pathlib import Path

ours = json.loads({ours!r})
try:
    found = json.loads(Path({_SETTINGS!r}).read_text())
except (OSError, ValueError):
    found = {{}}
for key, value in ours.items():
    if found.get(key) != value:
        print(f"{_SETTINGS} has another {{key}}")
PYTHON
"""
