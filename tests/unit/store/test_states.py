"""States are derived from the open operation and from what was observed."""

from __future__ import annotations

import pytest

from bot.store.states import InstanceState, derive_state
from bot.store.tables import ContainerState, Instance, OperationKind


@pytest.mark.parametrize(
    ("container", "ready_at", "failure", "operation", "state"),
    [
        (ContainerState.NONE, None, None, OperationKind.CREATE, InstanceState.CREATING),
        (ContainerState.RUNNING, None, None, OperationKind.CREATE, InstanceState.CREATING),
        (ContainerState.RUNNING, 1.0, None, None, InstanceState.AWAKE),
        (ContainerState.RUNNING, None, None, None, InstanceState.WAKING),
        (ContainerState.EXITED, None, None, OperationKind.WAKE, InstanceState.WAKING),
        (ContainerState.EXITED, None, None, None, InstanceState.STOPPED),
        (ContainerState.PAUSED, None, None, None, InstanceState.ASLEEP),
        (ContainerState.EXITED, None, "It ended.", None, InstanceState.FAILED),
        (ContainerState.EXITED, None, "It ended.", OperationKind.WAKE, InstanceState.WAKING),
        (ContainerState.RUNNING, 1.0, None, OperationKind.DELETE, InstanceState.DELETING),
        (ContainerState.NONE, None, None, None, InstanceState.ABSENT),
    ],
)
def test_state(
    container: ContainerState,
    ready_at: float | None,
    failure: str | None,
    operation: OperationKind | None,
    state: InstanceState,
) -> None:
    instance = Instance(id="u-abcdefghij", container=container, ready_at=ready_at, failure=failure)
    assert derive_state(instance, operation) is state


def test_no_row_is_absent() -> None:
    assert derive_state(None, None) is InstanceState.ABSENT
