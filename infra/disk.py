"""The disk of one instance: a file of a fixed size with a file system in it, which its volume binds.

The limit is the size of the file, so neither the instance nor its owner can change it. `data` is inside of the file
only: a volume whose disk is not mounted does not start, where it would else fill the host. Whoever wants a disk made,
grown, mounted or removed runs the same script: the instance's stack by `pulumi`, the provisioner before each start.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

_ID = re.compile(r"u-[a-z0-9]{10}")
_NUMBER = re.compile(r"[1-9]\d{0,9}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]{2,1000}")

#: Comes on standard input; where it fails, its last line on standard error is a sentence.
SCRIPT = (Path(__file__).parent / "disk.sh").read_text()

#: Docker's daemon looks for what is mounted where the first process sees it, and a service may have mounts of its own.
_AS_ROOT = """\
as_root=
if [ "$(id -u)" != 0 ]; then
  as_root="sudo -n"
  $as_root true 2>/dev/null || {{
    echo "Only root may mount the disk of $ZAKI_INSTANCE: let this user run sudo without a password, or set" \
      "zaki:volumes to none in the host's stack." >&2
    exit 1
  }}
fi
enter="nsenter --target 1 --mount"
first=$($as_root readlink /proc/1/ns/mnt 2>/dev/null) || enter=
[ "$first" != "$($as_root readlink /proc/self/ns/mnt)" ] || enter=
exec $as_root $enter /bin/sh -s {verb} "$ZAKI_VOLUMES" "$ZAKI_INSTANCE" "$ZAKI_MIB" "$ZAKI_INODES"
"""


class Verb(StrEnum):
    """What the script does; each may be killed anywhere and run again."""

    MAKE = "make"  #: the file, where there is none, and then as `keep`
    KEEP = "keep"  #: grown to its size, and mounted
    MOUNT = "mount"  #: mounted as it is
    REMOVE = "remove"  #: unmounted, and gone with all that is in it


def is_folder(path: str) -> bool:
    """Whether a text can name the folder of disks: an absolute path, written in the shortest way."""
    absolute = path.startswith("/") and not path.startswith("//")
    return absolute and _PRINTABLE.fullmatch(path) is not None and posixpath.normpath(path) == path


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of an instance; the values are those of a valid specification."""

    instance: str
    #: Absolute path of the folder on the host with the disks of all instances.
    volumes: str
    #: Size of the file; what the file system itself needs is part of it.
    mib: int
    #: Files, folders and links that there may be; of one that is there already, it grows with the size alone.
    inodes: int

    @property
    def mounted_at(self) -> str:
        """The folder where the file system is mounted."""
        return f"{self.volumes}/{self.instance}"

    @property
    def options(self) -> Mapping[str, str]:
        """Options of the Docker volume: none of them ever changes, for another value would replace the volume."""
        return volume_options(self.volumes, self.instance)

    @property
    def environment(self) -> dict[str, str]:
        """What the command line of :func:`render` reads."""
        return {
            "ZAKI_VOLUMES": self.volumes,
            "ZAKI_INSTANCE": self.instance,
            "ZAKI_MIB": str(self.mib),
            "ZAKI_INODES": str(self.inodes),
        }


def volume_options(volumes: str, instance: str) -> Mapping[str, str]:
    """Options of the Docker volume of an instance whose disk is in this folder."""
    return MappingProxyType({"type": "none", "o": "bind", "device": f"{volumes}/{instance}/data"})


def folder_of(options: Mapping[str, str], instance: str) -> str | None:
    """The folder with the disk that a Docker volume with these options binds; None: it is no disk of this instance."""
    volumes = options.get("device", "").removesuffix(f"/{instance}/data")
    return volumes if is_folder(volumes) and dict(options) == dict(volume_options(volumes, instance)) else None


def render(verb: Verb) -> str:
    """The command line, for `/bin/sh -c`, that runs :data:`SCRIPT` from its standard input as root."""
    return _AS_ROOT.format(verb=verb)


def render_command(disk: Disk) -> dict[str, Any]:
    """All arguments of the command that an instance's stack declares."""
    return {
        "create": render(Verb.MAKE),
        # A disk that is gone is not made anew by an update: its person's files are somewhere, or lost.
        "update": render(Verb.KEEP),
        "delete": render(Verb.REMOVE),
        "stdin": SCRIPT,
        "environment": disk.environment,
        "add_previous_output_in_env": False,
    }


def is_command_of(instance: str, arguments: Mapping[str, object]) -> bool:
    """Whether these are exactly what :func:`render_command` gives for a disk of this instance."""
    found = arguments.get("environment")
    if _ID.fullmatch(instance) is None or not isinstance(found, Mapping):
        return False
    volumes, mib, inodes = (str(found.get(name, "")) for name in ("ZAKI_VOLUMES", "ZAKI_MIB", "ZAKI_INODES"))
    if not (is_folder(volumes) and _NUMBER.fullmatch(mib) and _NUMBER.fullmatch(inodes)):
        return False
    given = {name: value for name, value in arguments.items() if value is not None}
    return given == render_command(Disk(instance, volumes, int(mib), int(inodes)))
