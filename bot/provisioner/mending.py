"""Brings a container that a hand has changed back to what its stack declares; its volume is never touched."""

from __future__ import annotations

import structlog

from bot.provisioner.containers import ContainerError, Containers
from bot.provisioner.drift import drift
from bot.provisioner.stacks import StackManager
from bot.store.tables import ContainerState
from infra.spec import InstanceSpec

_log = structlog.get_logger(__name__)


async def mend(stacks: StackManager, containers: Containers, spec: InstanceSpec) -> None:
    """Make the container what `spec` says, in place where that can be done, else by making it anew.

    It may be another one afterwards, and stopped. Raises what :meth:`StackManager.up` and :class:`Containers` raise.
    """
    # Sees what was removed or renamed, and limits of memory and processors.
    await stacks.up(spec, compare=True)
    if (reason := await _still(containers, spec)) is None:
        return
    # Networks, labels and all that confines it are never read back.
    _log.info("container made anew", instance=spec.id, reason=reason)
    await containers.stop(spec.id)
    await containers.remove_orphan_container(spec.id)
    await stacks.up(spec, compare=True)
    if (reason := await _still(containers, spec)) is not None:
        raise ContainerError(f"The container {spec.id} is not as declared, made anew or not: {reason}")


async def _still(containers: Containers, spec: InstanceSpec) -> str | None:
    """What is not as declared, after what can be changed at once was changed."""
    observed = await containers.observe(spec.id)
    if observed is None:
        return "It is missing."
    if observed.state in (ContainerState.RUNNING, ContainerState.PAUSED):
        await containers.limit_processes(spec.id, spec.pids)
        observed = await containers.observe(spec.id) or observed
    return drift(observed, spec)
