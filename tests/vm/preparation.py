"""What a VM is given beforehand, so that it is spared what takes long under emulation."""

from __future__ import annotations

import shutil
from pathlib import Path

from bot.toolchain import Toolchain
from tests.vm.machine import Vm

#: How this machine reaches the index of packages, the VM does too.
_AS_HERE = ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")


def prepare(vm: Vm, folder: Path, *further: Path) -> None:
    """Bring the engine and its plugins, which would be built there otherwise, and the way to Python's packages.

    Args:
        vm: It has just started.
        folder: For what is brought, as it will be below the VM's root.
        further: Files that are laid into `/root`.
    """
    root = folder / "root"
    toolchain = Toolchain.from_pins()
    shutil.copytree(
        toolchain.pulumi_bin.parent,
        root / "var/cache/zaki/pulumi" / toolchain.engine_version,
        ignore=shutil.ignore_patterns("logs", "workspaces"),
    )
    for name in _AS_HERE:
        if (found := Path("/", name)).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, root / name)
    (root / "root").mkdir()
    for file in further:
        shutil.copy(file, root / "root" / file.name)
    vm.bring(root, folder / "disk")
    shutil.rmtree(root)
