"""Swap of a host, in which its sleeping instances live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pulumi
import pulumi_command as command

from infra.spec import HostSpec
from infra.steps import HostFile, Steps

_SCRIPT = Path(__file__).parents[1] / "scripts" / "swap"

#: Where the script is on a host behind SSH; it keeps a copy of its own for the next boot.
_THERE = "/usr/local/lib/zaki/bring-swap"

#: The script comes on standard input, so that the stack notices when it changes. Without a size it is a wish: a machine
#: that lets nobody bring swap still gets the rest of its stack.
_AS_ROOT = """\
set -eu
script="$(mktemp)"
trap 'rm -f "$script"' EXIT
cat >"$script"
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
$as_root bash "$script" {action} || [ -z "$ZAKI_SWAP_MIB" ]
"""


def declare_swap(spec: HostSpec, opts: pulumi.ResourceOptions) -> command.local.Command | None:
    """As much swap as the specification wants, again at every boot; None where it wants none.

    More may be declared later and comes in place; less takes nothing away, for instances may sleep in it.
    """
    if spec.host_swap_mib == 0:
        return None
    return command.local.Command(
        "swap",
        create=_AS_ROOT.format(action="keep $ZAKI_SWAP_MIB"),
        delete=_AS_ROOT.format(action="down"),
        stdin=_SCRIPT.read_text(),
        environment={"ZAKI_SWAP_MIB": "" if spec.host_swap_mib is None else str(spec.host_swap_mib)},
        add_previous_output_in_env=False,
        opts=opts,
    )


def declare_swap_there(
    spec: HostSpec, steps: Steps, parent: pulumi.Resource, depends_on: Sequence[pulumi.Resource]
) -> list[pulumi.Resource]:
    """The same on a host behind SSH."""
    if spec.host_swap_mib == 0:
        return []
    size = "" if spec.host_swap_mib is None else f" {spec.host_swap_mib}"
    # Without a size it is a wish here too.
    wish = " || true" if spec.host_swap_mib is None else ""
    return [
        steps.run(
            "swap",
            f"{_THERE} keep{size}{wish}\n",
            undo=f"if [[ -x {_THERE} ]]; then {_THERE} down; fi\n",
            files={_THERE: HostFile(_SCRIPT.read_text(), mode=0o755)},
            parent=parent,
            depends_on=depends_on,
        )
    ]
