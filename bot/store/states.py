"""The state of an instance, derived from the operation under way and from what was observed."""

from __future__ import annotations

from enum import StrEnum

from bot.store.tables import ContainerState, Instance, OperationKind


class InstanceState(StrEnum):
    """What people are told about an instance."""

    ABSENT = "absent"
    CREATING = "creating"
    WAKING = "waking"
    AWAKE = "awake"
    SLEEPING = "sleeping"
    ASLEEP = "asleep"
    STOPPED = "stopped"
    ARCHIVED = "archived"
    FAILED = "failed"
    DELETING = "deleting"


_UNDER_WAY = {
    OperationKind.CREATE: InstanceState.CREATING,
    OperationKind.WAKE: InstanceState.WAKING,
    OperationKind.REPAIR: InstanceState.WAKING,
    OperationKind.UPDATE: InstanceState.WAKING,
    OperationKind.RESTORE: InstanceState.WAKING,
    OperationKind.RESTART: InstanceState.WAKING,
    OperationKind.WARM: InstanceState.CREATING,
    OperationKind.SLEEP: InstanceState.SLEEPING,
    OperationKind.STOP: InstanceState.SLEEPING,
    OperationKind.ARCHIVE: InstanceState.SLEEPING,
    OperationKind.DELETE: InstanceState.DELETING,
}


def derive_state(instance: Instance | None, operation: OperationKind | None) -> InstanceState:
    """The state; `operation` is the kind of the open operation, None where none is under way."""
    if instance is None:
        return InstanceState.ABSENT
    if operation is not None:
        return _UNDER_WAY[operation]
    if instance.failure is not None:
        return InstanceState.FAILED
    if instance.archive is not None:
        return InstanceState.ARCHIVED
    match instance.container:
        case ContainerState.RUNNING:
            return InstanceState.AWAKE if instance.ready_at is not None else InstanceState.WAKING
        case ContainerState.PAUSED:
            return InstanceState.ASLEEP
        case ContainerState.CREATED | ContainerState.EXITED:
            return InstanceState.STOPPED
        case _:
            return InstanceState.ABSENT
