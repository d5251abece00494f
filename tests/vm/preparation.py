"""A disk of a bare Debian with filled caches: what is in them the VM, slow as it is, need not build or fetch."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from bot.toolchain import Toolchain
from tests.vm.machine import Disk

#: How this machine reaches the index of Python's packages, the VM does too.
_AS_HERE = ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")
#: What the steps of a host install.
PACKAGES = (
    *(
        "apparmor",
        "ca-certificates",
        "curl",
        "debootstrap",
        "docker.io",
        "e2fsprogs",
        "fail2ban",
        "iproute2",
        "iptables",
        "kmod",
    ),
    *("nftables", "python3-systemd", "python3-venv", "restic", "systemd-timesyncd", "ufw", "unattended-upgrades"),
    "unbound",
)


def prepared_disk(bare: Disk, folder: Path, release: Path, *further: Path) -> Disk:
    """Copy a disk, and put there the engine with its plugins, Debian's packages and Python's.

    Args:
        bare: As a cloud hands it over.
        folder: Where the copy goes.
        release: The archive of one that was locked with the same packages.
        further: Files for `/root`.
    """
    for name in ("vmlinuz", "initrd"):
        (folder / name).symlink_to(bare.folder / name)
    subprocess.run(["cp", "--sparse=always", bare.folder / "disk", folder / "disk"], check=True)
    with _mounted(folder / "disk") as root:
        toolchain = Toolchain.from_pins()
        engine = root / "var/cache/zaki/pulumi" / toolchain.engine_version
        left_out = shutil.ignore_patterns("logs", "workspaces")
        shutil.copytree(toolchain.pulumi_bin.parent, engine, ignore=left_out)
        for name in _AS_HERE:
            if (found := Path("/", name)).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(found, root / name)
        for file in further:
            shutil.copy(file, root / "root" / file.name)
        _fetch_packages(root)
        _install_release(root / "opt/zaki/releases/before", release)
    return Disk(folder)


def _fetch_packages(root: Path) -> None:
    """Debian's packages into the cache of apt; none is installed."""
    resolver = (root / "etc/resolv.conf").read_text()
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    apt = ["chroot", str(root), "apt-get", "--quiet=2", "--option", "APT::Sandbox::User=root"]
    install = ["install", "--yes", "--no-install-recommends", "--download-only", *PACKAGES]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        for words in (["update"], install):
            subprocess.run([*apt, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
    finally:
        (root / "etc/resolv.conf").write_text(resolver)


def _install_release(place: Path, release: Path) -> None:
    """The packages of a release, from which another one with the same ones borrows; that it served nobody knows."""
    place.mkdir(parents=True)
    with tarfile.open(release) as archive:
        archive.extract("requirements.txt", place, filter="data")
    uv = shutil.which("uv") or str(next(Toolchain.from_pins().cache.glob("uv/*/bin/uv")))
    environment = {**os.environ, "VIRTUAL_ENV": str(place / "venv")}
    quiet = ["--quiet", "--link-mode=copy"]
    subprocess.run([uv, "venv", *quiet, "--seed", "--python=/usr/bin/python3", place / "venv"], check=True)
    subprocess.run(
        [uv, "pip", "install", *quiet, "--compile-bytecode", "--require-hashes", "-r", place / "requirements.txt"],
        env=environment,
        check=True,
    )
    (place / "complete").touch()


@contextlib.contextmanager
def _mounted(disk: Path) -> Iterator[Path]:
    """Where the disk's root is, during the block."""
    root = disk.parent / "root"
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, root], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)
        root.rmdir()
