"""What the room allows: a wake, a sleep, or that somebody has to go to sleep first."""

from __future__ import annotations

from dataclasses import dataclass

from bot.provisioner.sleep.room import Room

GIB = 1 << 30
#: What an OpenClaw that has just answered holds (measured: 0.9 GiB, and it grows with use).
AWAKE_BYTES = 1_100_000_000
#: Percent of ten seconds in which everything waited for memory, above which the machine thrashes.
FULL_PRESSURE = 10.0
#: Swap that stays free: other programs' pages go there too.
_SWAP_RESERVE = 256 << 20


@dataclass(frozen=True)
class Verdict:
    """Yes or no, and why."""

    yes: bool
    #: One sentence.
    reason: str

    def __bool__(self) -> bool:
        return self.yes


def reserve(room: Room) -> int:
    """Memory that is never given to an instance: the services and the kernel's caches live in it."""
    return max(256 << 20, room.total_bytes // 16)


def may_wake(room: Room, needs_bytes: int, reserved_bytes: int = 0) -> Verdict:
    """Whether there is memory for one more that needs so much, beside what is promised already."""
    if (pressed := must_free(room)).yes:
        return Verdict(False, pressed.reason)
    free = room.available_bytes - reserve(room) - reserved_bytes
    if free < needs_bytes:
        promised = f", {_size(reserved_bytes)} of it promised to others that wake" if reserved_bytes else ""
        return Verdict(
            False,
            f"It needs {_size(needs_bytes)}; {_size(room.available_bytes)} of memory are available{promised}, "
            f"and {_size(reserve(room))} stay free.",
        )
    return Verdict(True, f"It needs {_size(needs_bytes)} of {_size(max(free, 0))} that may be given out.")


def must_free(room: Room) -> Verdict:
    """Whether somebody has to go to sleep: memory runs out, or everything waits for it.

    Waiting alone is no reason while memory is plentiful: then it is sleepers that wake and read their swap.
    """
    if room.available_bytes < reserve(room):
        return Verdict(
            True,
            f"There are {_size(room.available_bytes)} of memory available, and {_size(reserve(room))} must stay free.",
        )
    scarce = room.available_bytes < reserve(room) + 2 * AWAKE_BYTES
    if scarce and room.full_pressure is not None and room.full_pressure > FULL_PRESSURE:
        return Verdict(
            True,
            f"Everything waited for memory in {room.full_pressure:.0f} % of the last 10 seconds, "
            f"with {_size(room.available_bytes)} available.",
        )
    return Verdict(False, f"There are {_size(room.available_bytes)} of memory available, which is enough.")


def can_hold(room: Room, sleeper_bytes: int) -> Verdict:
    """Whether swap takes one more sleeper of this size; without that, pausing it gives nothing back."""
    if room.swap_total_bytes == 0:
        return Verdict(
            False, "This machine has no swap, so a sleeper would keep its memory; run scripts/setup as root."
        )
    free = max(0, room.swap_free_bytes - _SWAP_RESERVE)
    if free < sleeper_bytes:
        return Verdict(
            False,
            f"Swap is full: a sleeper of {_size(sleeper_bytes)} has {_size(free)} left; "
            "give this host more with zaki:host_swap_mib.",
        )
    return Verdict(True, f"Swap has {_size(free)} for a sleeper of {_size(sleeper_bytes)}.")


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
