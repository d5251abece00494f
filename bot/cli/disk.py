"""How full an instance's disk is."""

from __future__ import annotations

from bot.cli.output import Row
from bot.provisioner import disks


def disk_use(instance_id: str, volumes: str | None) -> Row | None:
    """Space in MiB, and files; None where it has no disk, or that is not mounted here."""
    use = disks.use(volumes, instance_id) if volumes is not None else None
    if use is None:
        return None
    return {
        "used_mib": use.used >> 20,
        "size_mib": use.size >> 20,
        "files": use.files,
        "most_files": use.most_files,
        "percent": use.percent,
    }
