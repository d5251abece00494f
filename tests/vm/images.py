"""A small image in which the stand-in gateway takes OpenClaw's place, for machines that take long for everything."""

from __future__ import annotations

import gzip
import subprocess
import tarfile
from pathlib import Path

from bot.bench.standin_image import standin_image
from bot.toolchain import Toolchain

#: Its name on the machine that it is brought to.
NAME = "zaki/small:1"
#: What Python and a shell need of the root, and what the stand-in is.
_KEPT = ("etc/", "home/", "opt/standin/", "tmp/", "usr/bin/", "usr/lib/python3.11/", "usr/lib/x86_64-linux-gnu/")
_LEFT_OUT = (
    *("usr/bin/perl", "usr/bin/git", "usr/bin/scalar", "usr/bin/openssl", "usr/bin/gpgv", "usr/bin/dpkg"),
    *("usr/bin/apt", "usr/bin/localedef", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/gconv"),
    *("usr/lib/x86_64-linux-gnu/libperl", "usr/lib/x86_64-linux-gnu/dri", "usr/lib/python3.11/test"),
    *("usr/lib/python3.11/idlelib", "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/ensurepip", "etc/ssl"),
)


def small_image(folder: Path) -> Path:
    """Make the archive that `docker import` takes, with :data:`CHANGES`."""
    base = standin_image(Toolchain.from_pins().image_tag)
    container = subprocess.run(["docker", "create", base], capture_output=True, text=True, check=True).stdout.strip()
    archive = folder / "small.tar.gz"
    try:
        with (
            subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exporting,
            gzip.open(archive, "wb", compresslevel=1) as file,
            tarfile.open(fileobj=exporting.stdout, mode="r|") as whole,
            tarfile.open(fileobj=file, mode="w|") as small,
        ):
            for member in whole:
                if _is_kept(member):
                    small.addfile(member, whole.extractfile(member) if member.isreg() else None)
    finally:
        subprocess.run(["docker", "rm", container], capture_output=True, check=True)
    return archive


#: Of the image that the archive was made from, which `docker export` leaves out.
CHANGES = (
    'CMD ["/usr/bin/python3.11", "-s", "-m", "bot.standins.instance"]',
    "ENV PYTHONPATH=/opt/standin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/home/node",
    "USER node",
    "WORKDIR /home/node",
)


def _is_kept(member: tarfile.TarInfo) -> bool:
    name = member.name.removeprefix("./")
    if any(name.startswith(prefix) for prefix in _LEFT_OUT) or not (member.isreg() or member.isdir() or member.issym()):
        return False
    # Folders and links at the top are what makes the rest reachable: /lib, /lib64, /usr/lib64.
    at_top = name.count("/") <= 1 and not member.isreg()
    return at_top or name.startswith((*_KEPT, "usr/lib64/"))
