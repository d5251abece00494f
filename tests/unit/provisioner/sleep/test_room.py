"""What is read of the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.provisioner.sleep.room import Room, read_room

GIB = 1 << 30
MEMINFO = """\
MemTotal:       25165824 kB
MemFree:        21404492 kB
MemAvailable:   12582912 kB
SwapCached:            0 kB
SwapTotal:      25165824 kB
SwapFree:       20971520 kB
HugePages_Total:       0
"""
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def machine(root: Path, swaps: str = "", pressure: str | None = None, zram: str | None = None) -> Path:
    files = {"proc/meminfo": MEMINFO, "proc/swaps": SWAPS + swaps, "proc/pressure/memory": pressure}
    for name, text in {**files, "sys/block/zram0/mm_stat": zram}.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_room_in_memory_and_swap(tmp_path: Path) -> None:
    pressure = "some avg10=12.50 avg60=3.00 avg300=0.90 total=1\nfull avg10=7.25 avg60=1.00 avg300=0.10 total=1\n"
    assert read_room(machine(tmp_path, "/var/lib/zaki/swap/1 file 25165824 4194304 10\n", pressure)) == Room(
        total_bytes=24 * GIB,
        available_bytes=12 * GIB,
        swap_total_bytes=24 * GIB,
        swap_free_bytes=20 * GIB,
        some_pressure=12.5,
        full_pressure=7.25,
    )


def test_kernel_without_pressure_is_none(tmp_path: Path) -> None:
    room = read_room(machine(tmp_path))
    assert (room.some_pressure, room.full_pressure) == (None, None)


@pytest.mark.parametrize(
    ("statistics", "free_gib"),
    [
        # Of 12 GiB that it may take, 10 are in use for 20 that it holds: 4 more of the same kind.
        (f"{20 * GIB} {9 * GIB} {10 * GIB} {12 * GIB} 0 0 0 0 0", 4),
        # Compressible beyond its slots: the slots are what counts.
        (f"{4 * GIB} {GIB} {GIB} {12 * GIB} 0 0 0 0 0", 20),
        (f"{4 * GIB} {GIB} {GIB} 0 0 0 0 0 0", 20),
        (f"{20 * GIB} {9 * GIB} {12 * GIB} {12 * GIB} 0 0 0 0 0", 0),
    ],
    ids=["limited by its memory", "limited by its slots", "without a limit", "full"],
)
def test_compressed_memory_counts_as_far_as_its_limit_lets_it(tmp_path: Path, statistics: str, free_gib: int) -> None:
    room = read_room(machine(tmp_path, "/dev/zram0 partition 25165824 4194304 100\n", zram=statistics))
    assert room.swap_free_bytes == free_gib * GIB


def test_this_machine_can_be_read() -> None:
    room = read_room()
    assert 0 < room.available_bytes <= room.total_bytes
    assert 0 <= room.swap_free_bytes <= room.swap_total_bytes
