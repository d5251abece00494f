"""Swap of a host, in which its sleeping instances live."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_command as command

from infra.spec import HostSpec

_SCRIPT = Path(__file__).parents[1] / "scripts" / "swap"

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
