"""What is done about an instance in each situation, and that deciding comes to an end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.provisioner.decision import (
    LEAK,
    LOOK_ANYWAY,
    MEND_IDLE,
    NOTICE,
    PROBES_AFTER,
    PROBES_MISSED,
    UNASKED_IDLE,
    Action,
    Facts,
    Request,
    decide,
)
from bot.store.tables import ContainerState, Instance, UserStatus, Wanted, Wish
from bot.users.plans import PLANS

NOW = 1_800_000_000.0
PLAN = PLANS["standard"]


def instance(**columns: Any) -> Instance:
    """One that has been awake for a minute."""
    values: dict[str, Any] = {
        "id": "u-aaaaaaaaaa",
        "user_id": 1,
        "plan": "standard",
        "met_generation": 1,
        "container": ContainerState.RUNNING,
        "ready_at": NOW - 60,
        "declared_hash": "d",
        "repairs": 0,
    }
    return Instance(**{**values, **columns})


def wish(**columns: Any) -> Wish:
    return Wish(**{"user_id": 1, "wanted": Wanted.AWAKE, "plan": "standard", "generation": 1, **columns})


def facts(row: Instance | None = None, asked: Wish | None = None, **more: Any) -> Facts:
    """An instance that is up, and whose person wrote a minute ago."""
    values: dict[str, Any] = {"container": ContainerState.RUNNING, "last_word": NOW - 60}
    return Facts(NOW, row or instance(), asked or wish(), PLAN, **{**values, **more})


def asleep(since: float, **columns: Any) -> Facts:
    """One that has slept since then."""
    row = instance(resting_since=since, fenced_at=since, ready_at=None, container=ContainerState.PAUSED, **columns)
    return facts(row, container=ContainerState.PAUSED, last_word=since - PLAN.idle)


def stopped(since: float, **columns: Any) -> Facts:
    row = instance(resting_since=since, ready_at=None, container=ContainerState.EXITED, **columns)
    return facts(row, container=ContainerState.EXITED, last_word=since - PLAN.idle)


def test_it_sleeps_once_it_has_been_idle_for_the_plans_time() -> None:
    early = decide(facts(last_word=NOW - PLAN.idle + 5, row=instance(ready_at=NOW - 9000)))
    assert early.action is Action.NOTHING
    assert early.look_at == pytest.approx(NOW + 5)
    late = decide(facts(last_word=NOW - PLAN.idle, row=instance(ready_at=NOW - 9000)))
    assert late.action is Action.SLEEP
    assert not late.force
    assert "15 minutes" in late.reason


def test_a_turn_of_its_own_keeps_it_awake_but_not_for_ever() -> None:
    row = instance(ready_at=NOW - PLAN.awake - 60)
    assert decide(facts(row, last_word=NOW - 3600, last_turn=NOW - 10)).action is Action.NOTHING
    over = decide(facts(row, last_word=NOW - PLAN.awake, last_turn=NOW - 10))
    assert over.action is Action.SLEEP
    assert over.force


def test_one_that_woke_for_a_job_sleeps_again_sooner_and_not_before_the_job_is_done() -> None:
    woke = instance(ready_at=NOW - UNASKED_IDLE)
    assert decide(facts(woke, last_word=NOW - 9000)).action is Action.SLEEP
    assert decide(facts(woke, last_word=NOW - 9000, last_turn=NOW - 60)).action is Action.NOTHING
    assert decide(facts(woke, last_word=NOW - UNASKED_IDLE - 5)).action is Action.NOTHING


def test_a_clock_that_was_put_back_keeps_nothing_awake() -> None:
    row = instance(ready_at=NOW - 9000)
    assert decide(facts(row, last_word=NOW + 7200, last_turn=NOW + 7200)).action is Action.SLEEP


def test_it_does_not_sleep_while_a_message_is_on_its_way_or_its_person_wants_it_awake() -> None:
    idle = facts(instance(ready_at=NOW - 9000), last_word=NOW - PLAN.idle)
    assert decide(replace(idle, pending=True)).action is Action.NOTHING
    kept = decide(replace(idle, awake_until=NOW + 600))
    assert kept.action is Action.NOTHING
    assert kept.look_at == pytest.approx(NOW + 600)


@pytest.mark.parametrize("container", list(ContainerState))
def test_a_message_wakes_it_from_whatever_it_is(container: ContainerState) -> None:
    row = instance(resting_since=NOW - 60, ready_at=None, container=container, archive="s")
    assert decide(facts(row, wish(generation=2), container=container)).action is Action.WAKE
    assert decide(facts(row, container=container, pending=True)).action is Action.WAKE


def test_it_wakes_for_its_job_and_looks_again_in_time_for_it() -> None:
    sleeper = asleep(NOW - 60, next_job_at=NOW + 300)
    before = decide(replace(sleeper, wake_at=NOW + 280))
    assert before.action is Action.NOTHING
    assert before.look_at == pytest.approx(NOW + 280)
    due = decide(replace(sleeper, now=NOW + 280, wake_at=NOW + 280))
    assert due.action is Action.WAKE
    assert "job" in due.reason


def test_its_person_is_told_before_it_is_stopped_and_it_is_not_stopped_untold() -> None:
    since = NOW - PLAN.stop_after
    assert decide(asleep(since)).action is Action.TELL
    told = decide(asleep(since, rest_told_at=NOW - 60))
    assert told.action is Action.NOTHING
    assert decide(asleep(since, rest_told_at=NOW - NOTICE)).action is Action.STOP


def test_it_is_archived_after_weeks_and_stays_so() -> None:
    since = NOW - PLAN.archive_after
    assert decide(stopped(since)).action is Action.TELL
    assert decide(stopped(since, rest_told_at=NOW - NOTICE)).action is Action.ARCHIVE
    gone = replace(stopped(since, archive="snapshot", declared_hash=None), container=ContainerState.NONE)
    assert decide(gone).action is Action.NOTHING


def test_an_archive_that_was_cut_off_is_finished() -> None:
    half = stopped(NOW - PLAN.archive_after, archive="snapshot")
    assert decide(half).action is Action.ARCHIVE
    assert decide(replace(half, container=ContainerState.NONE)).action is Action.ARCHIVE


def test_one_that_ended_by_itself_is_started_and_one_that_was_stopped_on_purpose_is_not() -> None:
    ended = facts(instance(ready_at=None, container=ContainerState.EXITED), container=ContainerState.EXITED)
    assert decide(ended).action is Action.WAKE
    assert decide(stopped(NOW - 60)).action is Action.NOTHING


def test_a_sleeper_that_a_restart_of_docker_ended_waits_until_it_is_needed() -> None:
    assert decide(replace(asleep(NOW - 60), container=ContainerState.EXITED)).action is Action.NOTHING


def test_what_was_cut_off_while_falling_asleep_is_brought_in_order() -> None:
    assert decide(facts(instance(fenced_at=NOW - 60))).action is Action.WAKE
    assert decide(replace(facts(instance(fenced_at=NOW - 60)), container=ContainerState.PAUSED)).action is Action.WAKE
    assert decide(replace(asleep(NOW - 60), container=ContainerState.RUNNING)).action is Action.WAKE


def test_a_failure_waits_for_somebody_to_ask_again() -> None:
    failed = facts(
        instance(failure="It ended.", ready_at=None, container=ContainerState.EXITED), container=ContainerState.EXITED
    )
    assert decide(failed).action is Action.NOTHING
    assert decide(failed).reason == "It ended."
    assert decide(replace(failed, wish=wish(generation=2))).action is Action.WAKE


def test_a_silent_gateway_is_started_anew() -> None:
    row = instance(ready_at=NOW - PROBES_AFTER - 1)
    assert decide(facts(row, missed=PROBES_MISSED - 1)).action is Action.NOTHING
    assert decide(facts(row, missed=PROBES_MISSED)).action is Action.RESTART
    # Those were left unanswered by the process before.
    assert decide(facts(instance(ready_at=NOW - 5), missed=PROBES_MISSED)).action is Action.NOTHING


def test_one_that_leaks_starts_anew_when_it_is_idle_and_only_then() -> None:
    leaky: dict[str, Any] = {"memory": int(LEAK * 1000) + 1, "memory_limit": 1000}
    assert decide(facts(**leaky)).action is Action.NOTHING
    idle = facts(instance(ready_at=NOW - 9000), last_word=NOW - PLAN.idle, **leaky)
    assert decide(idle).action is Action.RESTART


def test_without_room_for_a_sleeper_it_is_stopped() -> None:
    idle = facts(instance(ready_at=NOW - 9000), last_word=NOW - PLAN.idle, no_room="Swap is full.")
    decision = decide(idle)
    assert decision.action is Action.STOP
    assert "Swap is full." in decision.reason


def test_what_is_not_as_declared_is_mended_unless_it_rests_or_is_at_work() -> None:
    assert decide(facts(drift="Its memory limit is 4096 MiB.")).action is Action.WAKE
    at_work = decide(facts(drift="Its memory limit is 4096 MiB.", last_turn=NOW - 5))
    assert at_work.action is Action.NOTHING
    assert at_work.look_at == pytest.approx(NOW - 5 + MEND_IDLE)
    assert decide(replace(asleep(NOW - 60), drift="Its memory limit is 4096 MiB.")).action is Action.NOTHING


def test_a_job_that_is_long_past_is_no_reason_to_look_again_and_again() -> None:
    unwanted = wish(wanted=Wanted.STOPPED)
    decision = decide(replace(stopped(NOW - 60), wish=unwanted, wake_at=NOW - 3600))
    assert decision.look_at == pytest.approx(NOW + LOOK_ANYWAY)


def test_others_who_need_the_memory_go_before_a_wish_to_stay_awake() -> None:
    kept = facts(awake_until=NOW + 3600, request=Request(Action.SLEEP, "The machine is short of memory."))
    assert decide(kept).action is Action.SLEEP
    assert decide(replace(asleep(NOW - 5), awake_until=NOW + 3600)).action is Action.NOTHING


def test_somebodys_instance_is_never_taken_for_one_of_the_pool() -> None:
    lost = instance(warmed_at=NOW - 5, container=ContainerState.EXITED, ready_at=None)
    assert decide(Facts(NOW, lost, None, PLAN, ContainerState.EXITED)).action is Action.NOTHING


def test_a_leak_is_no_reason_to_cut_a_turn_short() -> None:
    leaky: dict[str, Any] = {"memory": 2000, "memory_limit": 1000}
    request = Request(Action.SLEEP, "The machine is short of memory.")
    assert decide(facts(request=request, **leaky)).action is Action.SLEEP
    idle = decide(facts(instance(ready_at=NOW - 9000), last_word=NOW - PLAN.idle, **leaky))
    assert (idle.action, idle.gentle) == (Action.RESTART, True)


def test_a_request_to_sleep_is_refused_while_a_message_waits() -> None:
    request = Request(Action.SLEEP, "The operator asked for it.")
    assert decide(facts(request=request)).action is Action.SLEEP
    assert decide(facts(request=request, pending=True)).action is Action.NOTHING


def test_who_is_suspended_has_nothing_that_runs() -> None:
    unwanted = wish(wanted=Wanted.STOPPED, generation=2)
    assert decide(facts(asked=unwanted)).action is Action.STOP
    assert decide(replace(asleep(NOW - 60), wish=unwanted)).action is Action.STOP
    assert decide(replace(stopped(NOW - 60), wish=unwanted, wake_at=NOW - 1)).action is Action.NOTHING


@pytest.mark.parametrize(
    ("person", "word"),
    [
        (UserStatus.SUSPENDED, "suspended"),
        (UserStatus.BLOCKED, "blocked"),
        (UserStatus.ACTIVE, "until its person writes"),
    ],
)
def test_why_nobody_wants_it_is_said(person: UserStatus, word: str) -> None:
    unwanted = facts(asked=wish(wanted=Wanted.STOPPED, generation=2), person=person)
    assert word in decide(unwanted).reason
    assert word in decide(replace(unwanted, container=ContainerState.EXITED)).reason


def test_a_member_of_the_pool_is_warmed_once_and_given_up_when_it_is_cold() -> None:
    row = instance(user_id=None, container=ContainerState.CREATED, ready_at=None)
    member = Facts(NOW, row, None, PLAN, ContainerState.CREATED)
    assert decide(member).action is Action.WARM
    warm = instance(user_id=None, warmed_at=NOW - 5)
    assert decide(Facts(NOW, warm, None, PLAN, ContainerState.RUNNING)).action is Action.SLEEP
    slept = instance(user_id=None, warmed_at=NOW - 5, resting_since=NOW - 1, container=ContainerState.PAUSED)
    assert decide(Facts(NOW, slept, None, PLAN, ContainerState.PAUSED)).action is Action.NOTHING
    assert decide(Facts(NOW, slept, None, PLAN, ContainerState.EXITED)).action is Action.DELETE


_MAYBE = st.none() | st.floats(NOW - 60 * 24 * 3600, NOW + 24 * 3600)


@given(
    container=st.sampled_from(list(ContainerState)),
    wanted=st.sampled_from(list(Wanted)),
    ready_at=_MAYBE,
    fenced_at=_MAYBE,
    resting_since=_MAYBE,
    told=_MAYBE,
    word=_MAYBE,
    turn=_MAYBE,
    wake_at=_MAYBE,
    archive=st.none() | st.just("snapshot"),
    generation=st.integers(1, 2),
    failure=st.none() | st.just("It ended."),
)
def test_every_situation_has_an_action_or_a_time_to_look_again(
    container: ContainerState,
    wanted: Wanted,
    ready_at: float | None,
    fenced_at: float | None,
    resting_since: float | None,
    told: float | None,
    word: float | None,
    turn: float | None,
    wake_at: float | None,
    archive: str | None,
    generation: int,
    failure: str | None,
) -> None:
    row = instance(
        container=container,
        ready_at=ready_at,
        fenced_at=fenced_at,
        resting_since=resting_since,
        rest_told_at=told,
        archive=archive,
        failure=failure,
    )
    decision = decide(
        Facts(
            NOW,
            row,
            wish(wanted=wanted, generation=generation),
            PLAN,
            container,
            last_word=word,
            last_turn=turn,
            wake_at=wake_at,
        )
    )
    assert decision.reason
    if decision.action is Action.NOTHING:
        assert decision.look_at is not None
        assert NOW < decision.look_at <= NOW + LOOK_ANYWAY
