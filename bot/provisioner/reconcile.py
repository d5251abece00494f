"""Closes the difference between what is wished for an instance and what is observed.

Every step looks at the world first, so the whole may be killed anywhere and run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass

import structlog
from sqlalchemy import delete, select, update

from bot.nudge import Topic
from bot.provisioner import addresses
from bot.provisioner.containers import ContainerError, Containers, FileInVolume, Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.gateway import GatewayError
from bot.provisioner.lease import lease
from bot.provisioner.openclaw import CONFIG_FILE, USER_FILE, config_hash, render_config, render_user_file
from bot.provisioner.operations import Recorder, operation
from bot.store import now
from bot.store.tables import ContainerState, Instance, Operation, OperationKind, User, Wanted, Wish
from bot.timeline import Stage
from bot.users.plans import PLANS
from infra.spec import SpecError

_log = structlog.get_logger(__name__)

#: Seconds from the container's start within which the gateway must be ready.
READY_DEADLINE = 180.0
_PROBE_EVERY = 0.1
_OBSERVE_EVERY = 1.0
#: OpenClaw's exit code for a configuration that it refuses.
_EXIT_CONFIG = 78
#: Ways to repair a refused configuration: OpenClaw's own, then ours.
_CONFIG_REPAIRS = 2
#: Times that a broken gateway is started again before it counts as failed.
_REPAIRS = 1


class InstanceBroken(Exception):
    """The gateway does not come up; the message is one sentence with the reason."""


@dataclass(frozen=True)
class _Work:
    instance: Instance
    user: User
    wish: Wish


class Reconciler:
    """Brings one instance at a time to what is wished for it."""

    def __init__(self, context: ProvisionerContext, owner: str) -> None:
        self._context = context
        self._database = context.database
        self._containers: Containers = context.containers
        self._owner = owner

    async def reconcile(self, instance_id: str) -> None:
        """Bring the instance to its wish.

        Raises :class:`bot.provisioner.lease.LeaseHeld` while somebody else does; the errors of Docker and Pulumi, after
        which another try may succeed; :class:`InstanceBroken` once it has been recorded as the instance's failure.
        """
        async with lease(self._database, instance_id, self._owner):
            work = await self._load(instance_id)
            if work is None:
                return
            match work.wish.wanted:
                case Wanted.AWAKE:
                    await self._awake(work)
                case Wanted.STOPPED:
                    await self._stop(work)
                case Wanted.ABSENT:
                    await self._delete(work)
        self._context.nudge.ring(Topic.INSTANCES)

    async def _load(self, instance_id: str) -> _Work | None:
        query = (
            select(Instance, User, Wish)
            .join(User, User.id == Instance.user_id)
            .join(Wish, Wish.user_id == User.id)
            .where(Instance.id == instance_id)
        )
        async with self._database.read() as session:
            row = (await session.execute(query)).one_or_none()
        return _Work(*row) if row is not None else None

    async def _awake(self, work: _Work) -> None:
        try:
            await self._bring_up(work)
        except InstanceBroken as broken:
            raise await self._fail(work, str(broken)) from None
        except SpecError as error:
            raise await self._fail(work, f"It cannot be declared: {error}") from None

    async def _bring_up(self, work: _Work) -> None:
        instance = work.instance
        if work.wish.plan not in PLANS:
            raise InstanceBroken(f"The plan {work.wish.plan!r} does not exist; give the user another one.")
        if instance.declared_hash is None:
            # Nothing was made of it yet, so what the operator has changed since counts.
            instance.image = self._context.settings.image or self._context.host.image
        observed = await self._containers.observe(instance.id)
        if instance.repairs > _REPAIRS:
            raise InstanceBroken(f"{_reason(observed)} It was started again, and ended again.")
        declared = observed is not None and instance.declared_hash == self._declared_hash(work)
        configured = instance.config_hash == config_hash(self._context.config(instance, work.user))
        running = observed is not None and observed.state is ContainerState.RUNNING
        if declared and configured and running and instance.ready_at is not None:
            await self._met(work)
            return
        kind = _kind_of_wake(instance, observed)
        async with operation(self._database, self._context.nudge, instance, work.user.telegram_id, kind) as record:
            if not declared:
                await self._declare(work, record)
            await self._run(work, record)

    async def _declare(self, work: _Work, record: Recorder) -> None:
        """Pulumi's `up` of the user's stack, and a check that Docker took the address over."""
        instance = work.instance
        in_use = await self._containers.addresses(self._context.host.network)
        instance.address = str(
            await addresses.allocate(self._database, self._context.host, instance.id, in_use - {instance.address or ""})
        )
        instance.plan = work.wish.plan
        await record.stage(
            Stage.CREATING,
            "declaring the volume and the container",
            image=instance.image,
            address=instance.address,
            plan=instance.plan,
            failure=None,
        )
        await self._context.stacks.up(self._context.spec(instance))
        observed = await self._containers.observe(instance.id)
        if observed is None:
            # Removed behind Pulumi's back: `up` alone trusts its own record.
            await self._context.stacks.repair(instance.id)
            observed = await self._containers.observe(instance.id)
        if observed is None or observed.address != instance.address:
            raise InstanceBroken(f"Docker did not give {instance.id} its address {instance.address}.")
        instance.container = observed.state
        instance.declared_hash = self._declared_hash(work)
        await record.stage(Stage.DECLARED, container=observed.state, declared_hash=instance.declared_hash)

    async def _run(self, work: _Work, record: Recorder) -> None:
        """Configuration, start, ready; repairs what broke once."""
        instance = work.instance
        repairs = instance.repairs
        refusals = 0
        while True:
            await self._configure(work)
            observed = await self._containers.observe(instance.id)
            if observed is None:
                raise InstanceBroken(f"The container of {instance.id} went away while it was being started.")
            if observed.state is not ContainerState.RUNNING:
                await self._containers.start(instance.id, PLANS[instance.plan].pids)
                await record.stage(Stage.STARTED, container=ContainerState.RUNNING, ready_at=None)
            ended = await self._until_ready(instance)
            if ended is None:
                instance.ready_at = instance.ready_at or now()
                if not await self._configure(work):
                    break
                instance.ready_at = None
                continue
            instance.ready_at = None
            reason = _reason(ended)
            if ended.exit_code == _EXIT_CONFIG and refusals < _CONFIG_REPAIRS:
                refusals += 1
                await record.stage(Stage.STARTED, f"repairing: {reason}", container=ended.state)
                await (self._let_openclaw_repair if refusals == 1 else self._replace_config)(instance)
            elif repairs < _REPAIRS:
                repairs += 1
                await record.stage(Stage.STARTED, f"repairing: {reason}", repairs=repairs, container=ended.state)
            else:
                raise InstanceBroken(reason)
        await record.stage(
            Stage.READY,
            container=ContainerState.RUNNING,
            ready_at=now(),
            met_generation=work.wish.generation,
            next_look_at=None,
            failure=None,
        )

    async def _configure(self, work: _Work) -> bool:
        """Bring the configuration into the volume, or into the running gateway; true where that had to be stopped."""
        instance = work.instance
        config = self._context.config(instance, work.user)
        wanted = config_hash(config)
        if instance.config_hash == wanted:
            return False
        observed = await self._containers.observe(instance.id)
        running = observed is not None and observed.state is ContainerState.RUNNING
        stopped = False
        existing = await self._containers.read_file(instance.id, USER_FILE)
        user_file = render_user_file(config.owner, existing.decode("utf-8", "replace") if existing else None)
        files = [FileInVolume(USER_FILE, user_file.encode())]
        rendered = render_config(config)
        if running and instance.ready_at is not None:
            await self._containers.put_files(instance.id, files)
            try:
                await self._context.gateway(instance).patch_config(rendered)
            except GatewayError as error:
                _log.warning("the running gateway refused its configuration", instance=instance.id, reason=str(error))
                await self._containers.stop(instance.id)
                running, stopped = False, True
        if not running:
            files.append(FileInVolume(CONFIG_FILE, json.dumps(rendered, indent=1).encode()))
            await self._containers.put_files(instance.id, files)
        elif instance.ready_at is None:
            # Still starting: what it reads now may be half of each, so it gets the change once it is ready.
            return False
        instance.config_hash = wanted
        await self._save(instance, config_hash=wanted)
        return stopped

    async def _let_openclaw_repair(self, instance: Instance) -> None:
        """OpenClaw's own repair keeps what the assistant and its owner changed."""
        command = ["node", "/app/dist/index.js", "doctor", "--fix", "--yes", "--non-interactive"]
        try:
            code = await self._containers.run_once(instance.id, command)
            _log.info("openclaw doctor ended", instance=instance.id, exit_code=code)
        except ContainerError as error:
            _log.warning("openclaw doctor did not end", instance=instance.id, reason=str(error))

    async def _replace_config(self, instance: Instance) -> None:
        """Our own configuration again; the refused one stays beside it."""
        refused = await self._containers.read_file(instance.id, CONFIG_FILE)
        if refused is not None:
            await self._containers.put_files(instance.id, [FileInVolume(f"{CONFIG_FILE}.refused", refused)])
        instance.config_hash = None

    async def _until_ready(self, instance: Instance) -> Observed | None:
        """Wait for the gateway; the container as it ended, where it did, else None."""
        gateway = self._context.gateway(instance)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_DEADLINE
        observe_at = loop.time() + _OBSERVE_EVERY
        while not await gateway.ready():
            if loop.time() >= observe_at:
                observe_at = loop.time() + _OBSERVE_EVERY
                observed = await self._containers.observe(instance.id)
                if observed is None:
                    raise InstanceBroken(f"The container of {instance.id} went away while it was starting.")
                if observed.state is not ContainerState.RUNNING:
                    return observed
            if loop.time() >= deadline:
                await self._containers.stop(instance.id)
                raise InstanceBroken(f"The gateway was not ready within {READY_DEADLINE:.0f} seconds.")
            await asyncio.sleep(_PROBE_EVERY)
        return None

    async def _stop(self, work: _Work) -> None:
        observed = await self._containers.observe(work.instance.id)
        if observed is not None and observed.state in (ContainerState.RUNNING, ContainerState.PAUSED):
            async with operation(
                self._database, self._context.nudge, work.instance, work.user.telegram_id, OperationKind.STOP
            ) as record:
                await self._save(work.instance, ready_at=None)
                await self._containers.stop(work.instance.id)
                await record.stage(Stage.STOPPED, container=ContainerState.EXITED)
        await self._met(work)

    async def _delete(self, work: _Work) -> None:
        instance = work.instance
        async with operation(
            self._database, self._context.nudge, instance, work.user.telegram_id, OperationKind.DELETE
        ) as record:
            await self._save(instance, ready_at=None)
            await self._containers.stop(instance.id)
            await self._containers.remove_helper(instance.id)
            await self._context.stacks.destroy(instance.id)
            await self._containers.remove_orphan(instance.id)
            await record.stage(Stage.DELETED, container=ContainerState.NONE)
        async with self._database.write() as session:
            await addresses.release(session, instance.id)
            await session.execute(delete(Operation).where(Operation.instance_id == instance.id))
            await session.execute(delete(Instance).where(Instance.id == instance.id))

    async def _met(self, work: _Work) -> None:
        await self._save(work.instance, met_generation=work.wish.generation, next_look_at=None)

    async def _fail(self, work: _Work, reason: str) -> InstanceBroken:
        """Record the failure; the same wish is not tried again, a newer one is."""
        observed = await self._containers.observe(work.instance.id)
        await self._save(
            work.instance,
            failure=reason,
            ready_at=None,
            container=observed.state if observed else ContainerState.NONE,
            met_generation=work.wish.generation,
            next_look_at=None,
            repairs=0,
        )
        _log.error("instance failed", instance=work.instance.id, reason=reason)
        return InstanceBroken(reason)

    async def _save(self, instance: Instance, **columns: object) -> None:
        async with self._database.write() as session:
            await session.execute(update(Instance).where(Instance.id == instance.id).values(**columns))

    def _declared_hash(self, work: _Work) -> str | None:
        if work.instance.address is None or work.instance.plan != work.wish.plan:
            return None
        spec = json.dumps(self._context.spec(work.instance).to_config(), sort_keys=True)
        return hashlib.sha256(spec.encode()).hexdigest()


def _kind_of_wake(instance: Instance, observed: Observed | None) -> OperationKind:
    if instance.declared_hash is None:
        return OperationKind.CREATE
    if observed is None:
        return OperationKind.REPAIR
    return OperationKind.UPDATE if observed.state is ContainerState.RUNNING else OperationKind.WAKE


def _reason(ended: Observed | None) -> str:
    if ended is None:
        return "The gateway's container went away."
    if ended.oom_killed:
        return "The gateway ran out of memory; give its plan more."
    if ended.exit_code == _EXIT_CONFIG:
        return "The gateway refuses its configuration (exit code 78)."
    return f"The gateway ended with exit code {ended.exit_code}."
