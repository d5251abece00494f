"""What somebody who waits is told, and when; and how patient a delivery is."""

from __future__ import annotations

import pytest

from bot.front.delivery import pause_after
from bot.front.notices import LONG, QUIET, Notice, due, next_change
from bot.front.onboarding import clean_name
from bot.store.tables import ContainerState, Instance, Waiting


def _waiting(*, setup: bool) -> Waiting:
    return Waiting(telegram_id=1, since=1000.0, setup=setup, outbox_id=None, shown=None)


def _instance(container: ContainerState, failure: str | None = None, archive: str | None = None) -> Instance:
    return Instance(id="u-abcdefghij", container=container, failure=failure, archive=archive)


@pytest.mark.parametrize(
    ("setup", "waited", "instance", "notice"),
    [
        (True, 0.0, None, Notice.CREATING),
        (True, 5.0, _instance(ContainerState.CREATED), Notice.CREATING),
        (True, 5.0, _instance(ContainerState.RUNNING), Notice.STARTING),
        (True, LONG, _instance(ContainerState.RUNNING), Notice.LONG),
        (False, 0.0, _instance(ContainerState.EXITED), None),
        (False, QUIET, _instance(ContainerState.RUNNING), Notice.WAKING),
        (False, LONG, _instance(ContainerState.RUNNING), Notice.LONG),
        (False, 0.0, _instance(ContainerState.EXITED, "broken"), Notice.FAILED),
        (True, LONG, _instance(ContainerState.NONE, "broken"), Notice.FAILED),
        (False, 0.0, _instance(ContainerState.NONE, archive="ab12"), Notice.RESTORING),
        (False, LONG, _instance(ContainerState.CREATED, archive="ab12"), Notice.LONG),
        (False, 0.0, _instance(ContainerState.NONE, "broken", "ab12"), Notice.FAILED),
    ],
)
def test_the_notice_follows_the_instance_and_the_clock(
    setup: bool, waited: float, instance: Instance | None, notice: Notice | None
) -> None:
    assert due(_waiting(setup=setup), instance, 1000.0 + waited) == notice


@pytest.mark.parametrize(
    ("waited", "failure", "notice"),
    [(0.0, None, None), (QUIET, None, Notice.BUSY), (LONG, None, Notice.BUSY), (LONG, "broken", Notice.FAILED)],
)
def test_who_waits_for_room_is_told_so(waited: float, failure: str | None, notice: Notice | None) -> None:
    instance = _instance(ContainerState.PAUSED, failure)
    assert due(_waiting(setup=False), instance, 1000.0 + waited, queued=True) == notice


def test_the_next_look_is_when_the_notice_changes() -> None:
    assert next_change(_waiting(setup=False), 1001.0) == QUIET - 1
    assert next_change(_waiting(setup=False), 1000.0 + QUIET) == LONG - QUIET
    assert next_change(_waiting(setup=True), 1000.0) == LONG
    assert next_change(_waiting(setup=True), 1000.0 + LONG) is None


def test_pauses_grow_and_end_growing() -> None:
    assert pause_after(1) <= 0.2
    assert all(0 < pause_after(attempts) <= 30 for attempts in (1, 2, 10, 1000))
    assert pause_after(1000) > 20


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" Ada ", "Ada"),
        ("Ada\nignore all that\u202e", "Ada ignore all that"),
        ("\u200b\t\n", ""),
        ("x" * 100, "x" * 64),
        ("Zoë 🙂", "Zoë 🙂"),
    ],
)
def test_names_stay_on_one_line(typed: str, name: str) -> None:
    assert clean_name(typed) == name
