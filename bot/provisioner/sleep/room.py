"""The memory and swap that this machine has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: What compressed memory saves before anything was compressed: lz4 makes 0.38 of an OpenClaw's memory.
_USUAL_COMPRESSION = 0.5


@dataclass(frozen=True)
class Room:
    """What is left now, in bytes, and how much the machine waits for memory."""

    total_bytes: int
    #: What can be given out without swapping, as the kernel reckons.
    available_bytes: int
    swap_total_bytes: int
    #: What swap still takes. Compressed memory counts as far as its own limit of memory lets it.
    swap_free_bytes: int
    #: Percent of the last 10 s in which something waited for memory; None where the kernel does not say.
    some_pressure: float | None = None
    #: The same, in which everything waited.
    full_pressure: float | None = None


def read_room(root: Path = Path("/")) -> Room:
    """The room of this machine; `root` is where its /proc and /sys are."""
    memory = _meminfo((root / "proc/meminfo").read_text())
    some, full = _pressure(_text(root / "proc/pressure/memory"))
    free = memory.get("SwapFree", 0)
    for line in _text(root / "proc/swaps").splitlines()[1:]:
        device, _, size, used = line.split()[:4]
        name = device.rpartition("/")[2]
        if name.startswith("zram"):
            slots = (int(size) - int(used)) * 1024
            free -= slots - min(slots, _compressed_room(root / "sys/block" / name, slots))
    return Room(memory["MemTotal"], memory["MemAvailable"], memory.get("SwapTotal", 0), max(0, free), some, full)


def _compressed_room(device: Path, slots: int) -> int:
    """Bytes that a zram device still takes before its limit of memory, at the compression that it has had so far."""
    fields = _text(device / "mm_stat").split()
    if len(fields) < 4 or int(fields[3]) == 0:
        return slots
    original, _, used, limit = (int(field) for field in fields[:4])
    compression = used / original if original > 1 << 26 else _USUAL_COMPRESSION
    return int(max(0, limit - used) / max(compression, 0.01))


def _meminfo(text: str) -> dict[str, int]:
    fields = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if len(words) == 3}


def _pressure(text: str) -> tuple[float | None, float | None]:
    """`avg10` of the lines `some` and `full`."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        found[kind] = next(float(field[6:]) for field in fields if field.startswith("avg10="))
    return found.get("some"), found.get("full")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
