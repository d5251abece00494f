"""What the room allows."""

from __future__ import annotations

import dataclasses

import pytest

from bot.provisioner.sleep.pressure import AWAKE_BYTES, Verdict, can_hold, may_wake, must_free, reserve
from bot.provisioner.sleep.room import Room

GIB = 1 << 30
ROOM = Room(
    total_bytes=16 * GIB, available_bytes=8 * GIB, swap_total_bytes=16 * GIB, swap_free_bytes=8 * GIB, full_pressure=0.0
)


def room(**changes: object) -> Room:
    return dataclasses.replace(ROOM, **changes)  # type: ignore[arg-type]


def test_wake_needs_memory_beside_the_reserve() -> None:
    enough = AWAKE_BYTES + reserve(ROOM)
    assert may_wake(room(available_bytes=enough), AWAKE_BYTES)
    assert not may_wake(room(available_bytes=enough - 1), AWAKE_BYTES)


def test_what_is_promised_to_others_is_not_given_twice() -> None:
    enough = room(available_bytes=2 * AWAKE_BYTES + reserve(ROOM))
    assert may_wake(enough, AWAKE_BYTES, AWAKE_BYTES)
    refused = may_wake(enough, AWAKE_BYTES, AWAKE_BYTES + 1)
    assert not refused
    assert "promised to others" in refused.reason


def test_nobody_wakes_into_a_machine_that_thrashes() -> None:
    thrashing = room(available_bytes=reserve(ROOM) + AWAKE_BYTES, full_pressure=40.0)
    assert not may_wake(thrashing, 0)
    assert "40 % of the last 10 seconds" in may_wake(thrashing, 0).reason


def test_somebody_sleeps_when_memory_runs_out_whatever_the_pressure() -> None:
    assert must_free(room(available_bytes=reserve(ROOM) - 1, full_pressure=None))
    assert not must_free(room(available_bytes=reserve(ROOM), full_pressure=None))


def test_sleepers_that_read_their_swap_are_no_shortage() -> None:
    assert not must_free(room(available_bytes=12 * GIB, full_pressure=60.0))
    assert must_free(room(available_bytes=reserve(ROOM) + AWAKE_BYTES, full_pressure=60.0))


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"swap_free_bytes": GIB}, False), ({"swap_total_bytes": 0, "swap_free_bytes": 0}, False)],
    ids=["room", "full", "no swap"],
)
def test_swap_holds_a_sleeper_where_it_has_room(changes: dict[str, int], holds: bool) -> None:
    assert can_hold(room(**changes), GIB).yes is holds


@pytest.mark.parametrize(
    "verdict",
    [
        may_wake(ROOM, 1),
        may_wake(ROOM, 99 * GIB),
        must_free(ROOM),
        must_free(room(available_bytes=0)),
        can_hold(ROOM, 1),
        can_hold(ROOM, 99 * GIB),
        can_hold(room(swap_total_bytes=0), 1),
    ],
)
def test_every_reason_is_one_sentence(verdict: Verdict) -> None:
    assert verdict.reason[0].isupper()
    assert verdict.reason.endswith(".")
    assert ". " not in verdict.reason
