"""Brings an instance up: declared, restored, configured, started or thawed, ready."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json

import structlog

from bot.nudge import Topic
from bot.provisioner import addresses, jobs
from bot.provisioner.containers import ContainerError, FileInVolume, Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Action, Decision
from bot.provisioner.drift import drift
from bot.provisioner.gateway import GatewayError
from bot.provisioner.mending import mend
from bot.provisioner.openclaw import CONFIG_FILE, OWNER_LISTS, USER_FILE, config_hash, render_config, render_user_file
from bot.provisioner.operations import Recorder
from bot.provisioner.sleep import AWAKE_BYTES, WakeAdmission
from bot.provisioner.sleep.freezer import Freezer
from bot.provisioner.work import InstanceBroken, InstanceStumbled, Work
from bot.store import now
from bot.store.tables import Announcement, ContainerState, Instance, News, OperationKind
from bot.timeline import Stage
from bot.users.plans import PLANS

_log = structlog.get_logger(__name__)

#: Seconds from the container's start within which the gateway must be ready.
READY_DEADLINE = 180.0
#: Seconds before each further start of a gateway that ends again and again; after the last it has failed. OpenClaw
#: itself keeps its channels shut after three unclean ends within five minutes, so the last pause is longer than those.
BACK_OFF = (0.0, 10.0, 330.0)
#: Seconds for which a gateway that starts has a core to itself.
_SLOT_FOR = 45.0
_PROBE_EVERY = 0.1
_OBSERVE_EVERY = 1.0
#: OpenClaw's exit code for a configuration that it refuses.
_EXIT_CONFIG = 78
#: Ways to repair a refused configuration: OpenClaw's own, then ours.
_CONFIG_REPAIRS = 2


class Waking:
    """Carries out the decision to wake an instance, or to start it anew."""

    def __init__(
        self, context: ProvisionerContext, freezer: Freezer, admission: WakeAdmission, slots: asyncio.Semaphore
    ) -> None:
        """`slots`: how many gateways may start at a time, each of which fills a core."""
        self._context = context
        self._containers = context.containers
        self._freezer = freezer
        self._admission = admission
        self._slots = slots

    async def wake(self, work: Work, decision: Decision, observed: Observed | None) -> None:
        """Bring it up.

        Raises :class:`InstanceBroken` where it cannot run, :class:`InstanceStumbled` where another start may help.
        """
        instance = work.instance
        if work.plan_name not in PLANS:
            raise InstanceBroken(f"The plan {work.plan_name!r} does not exist; give the user another one.")
        if instance.declared_hash is None:
            # Nothing was made of it yet, so what the operator has changed since counts.
            instance.image = self._context.settings.image or self._context.host.image
        if instance.repairs > len(BACK_OFF):
            raise InstanceBroken(f"{_reason(observed)} It was started again {len(BACK_OFF)} times, and ended again.")
        restart = decision.action is Action.RESTART
        declared = self._is_declared(work, observed)
        if declared and not restart and self._is_up(work, observed):
            await work.save(met_generation=work.generation)
            return
        kind = _kind(instance, observed, decision)
        async with work.operation(kind) as record:
            if not declared:
                await self.declare(work, record)
                observed = await self._containers.observe(instance.id)
            archived = instance.archive
            if archived is not None:
                if observed is not None and observed.state in (ContainerState.CREATED, ContainerState.EXITED):
                    # Where the volume has lived since, the database is older than it, and nothing is overwritten.
                    await self._context.archive.restore(instance.id, archived)
                await record.stage(Stage.RESTORED, archive=None)
                instance.archive = None
            if restart:
                await work.save(ready_at=None)
                await self._containers.stop(instance.id)
            await self._run(work, record)
            await self._context.archive.forget(instance.id)

    def _is_up(self, work: Work, observed: Observed | None) -> bool:
        """Whether it takes messages, with the configuration that it should have."""
        instance = work.instance
        return (
            observed is not None
            and observed.state is ContainerState.RUNNING
            and instance.ready_at is not None
            and instance.fenced_at is None
            and instance.resting_since is None
            and instance.config_hash == config_hash(self._context.config(instance, work.user))
        )

    def _is_declared(self, work: Work, observed: Observed | None) -> bool:
        """Whether the container is what its person's plan says."""
        instance = work.instance
        return (
            observed is not None
            and instance.declared_hash is not None
            and instance.declared_hash == self._declared_hash(work)
            and drift(observed, self._context.spec(instance)) is None
        )

    async def declare(self, work: Work, record: Recorder) -> bool:
        """Pulumi's `up` of the instance's stack, and a check that Docker took everything over; whether it changed."""
        instance, containers = work.instance, self._containers
        in_use = await containers.addresses(self._context.host.network, besides=instance.id)
        given = await addresses.allocate(self._context.database, self._context.host, instance.id, in_use)
        instance.address, instance.plan = str(given), work.plan_name
        observed = await containers.observe(instance.id)
        if observed is None and not await containers.has_image(instance.image):
            # Who has no container any more takes the image of today.
            instance.image = self._context.settings.image or self._context.host.image
        if not await containers.has_volume(instance.id):
            # What the row says of a volume that is gone is no longer so: there may be an archive instead.
            instance.config_hash = None
            if instance.archive is None and (saved := await self._context.archive.latest(instance.id)) is not None:
                instance.archive = saved.snapshot
        await record.stage(
            Stage.CREATING,
            "declaring the volume and the container",
            image=instance.image,
            address=instance.address,
            plan=instance.plan,
            config_hash=instance.config_hash,
            archive=instance.archive,
            failure=None,
        )
        spec = self._context.spec(instance)
        changed = (await self._context.stacks.up(spec)).changed
        observed = await containers.observe(instance.id)
        if observed is None or drift(observed, spec) is not None:
            # Changed behind Pulumi's back: `up` alone trusts its own record.
            await mend(self._context.stacks, containers, spec)
            changed = True
            observed = await containers.observe(instance.id)
        if observed is None or observed.address != instance.address:
            raise InstanceBroken(f"Docker did not give {instance.id} its address {instance.address}.")
        instance.container = observed.state
        instance.declared_hash = self._declared_hash(work)
        await record.stage(Stage.DECLARED, container=observed.state, declared_hash=instance.declared_hash)
        return changed

    async def _run(self, work: Work, record: Recorder) -> None:
        """Configuration, start or thaw, ready; repairs what broke."""
        instance = work.instance
        refusals = 0
        while (ended := await self._started(work, record)) is not None:
            instance.ready_at = None
            reason = _reason(ended)
            if ended.exit_code == _EXIT_CONFIG and refusals < _CONFIG_REPAIRS:
                refusals += 1
                await record.stage(Stage.STARTED, f"repairing: {reason}", container=ended.state, ready_at=None)
                await (self._let_openclaw_repair if refusals == 1 else self._replace_config)(instance)
                continue
            if ended.exit_code == _EXIT_CONFIG or instance.repairs >= len(BACK_OFF):
                raise InstanceBroken(reason)
            pause = BACK_OFF[instance.repairs]
            instance.repairs += 1
            repairs = {"repairs": instance.repairs, "container": ended.state, "ready_at": None}
            await record.stage(Stage.STARTED, f"repairing: {reason}", **repairs)
            if pause:
                raise InstanceStumbled(reason, pause)
        owed = work.user is not None and jobs.owed(instance, now())
        columns = {} if owed else jobs.AWAKE
        await record.stage(
            Stage.READY,
            **columns,
            container=ContainerState.RUNNING,
            # One that was up all the time goes on to age: what it says of itself must not keep it awake.
            ready_at=instance.ready_at or now(),
            met_generation=work.generation,
            failure=None,
            fenced_at=None,
            suspension_id=None,
            resting_since=None,
            rest_told_at=None,
        )
        if owed:
            await self.catch_up(work)

    async def _started(self, work: Work, record: Recorder) -> Observed | None:
        """Start or thaw it, and wait; the container as it ended, where it did, None once it is ready."""
        instance = work.instance
        observed = await self._containers.observe(instance.id)
        if observed is None:
            raise InstanceBroken(f"The container of {instance.id} went away while it was being started.")
        if observed.state is not ContainerState.RUNNING:
            instance.ready_at = None
        if observed.state is ContainerState.PAUSED:
            use = await self._freezer.use(instance.id)
            needs = use.swapped_bytes if use is not None else AWAKE_BYTES
            async with self._admission.admit(instance.id, needs, work.is_wanted_up):
                await self._freezer.thaw(instance.id, PLANS[instance.plan].pids)
            await record.stage(Stage.WOKEN, container=ContainerState.RUNNING, ready_at=None)
        elif observed.state is not ContainerState.RUNNING:
            await self._configure(work)
            async with self._slots, self._admission.admit(instance.id, AWAKE_BYTES, work.is_wanted_up):
                await self._containers.start(instance.id, PLANS[instance.plan].pids)
                await record.stage(Stage.STARTED, container=ContainerState.RUNNING, ready_at=None)
                # One that never becomes ready must not keep the others from starting.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SLOT_FOR):
                        return await self._ready_as_configured(work)
            return await self._ready_as_configured(work)
        await self._resume(instance)
        return await self._ready_as_configured(work)

    async def _ready_as_configured(self, work: Work) -> Observed | None:
        """Wait until it is ready with its configuration; as :meth:`_started`."""
        instance = work.instance
        if (ended := await self._until_ready(instance)) is not None:
            return ended
        instance.ready_at = instance.ready_at or now()
        if not await self._configure(work):
            return None
        # It had to be stopped for its configuration.
        instance.ready_at = None
        await self._containers.start(instance.id, PLANS[instance.plan].pids)
        return await self._until_ready(instance)

    async def _resume(self, instance: Instance) -> None:
        """End the suspension that the gateway is in, if any; one of which nothing is known ends in two minutes."""
        if instance.fenced_at is None:
            return
        gateway = self._context.gateway(instance)
        try:
            suspension_id = instance.suspension_id
            if suspension_id is None:
                # A crash came between the gateway's answer and our commit: the same question has the same answer.
                suspension_id = (await gateway.suspend(suspension_request(instance.id))).id
            if suspension_id is not None:
                await gateway.resume(suspension_id)
        except GatewayError as error:
            _log.warning("a gateway was not resumed", instance=instance.id, reason=str(error))

    async def catch_up(self, work: Work) -> None:
        """Have the person told of the jobs that were due while it was down: it runs them now."""
        instance, user = work.instance, work.user
        assert user is not None  # noqa: S101 - nobody's instances have no jobs
        try:
            late = await jobs.catch_up(self._context.gateway(instance), instance, now())
        except GatewayError as error:
            _log.warning("late jobs were not looked for", instance=instance.id, reason=str(error))
            return
        rows = [
            Announcement(
                telegram_id=user.telegram_id,
                news=News.LATE_JOB,
                detail={"name": job.name, "due_at": job.due_at},
                created_at=now(),
            )
            for job in late
        ]
        await work.save(*rows, **jobs.AWAKE)
        if rows:
            self._context.nudge.ring(Topic.INSTANCES)

    async def _configure(self, work: Work) -> bool:
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
                await self._context.gateway(instance).patch_config(rendered, OWNER_LISTS)
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
        await work.save(config_hash=wanted)
        return stopped

    async def _let_openclaw_repair(self, instance: Instance) -> None:
        """OpenClaw's own repair brings back the last configuration that it was ready with, and keeps what it can.

        It cannot help where files are not its own any more, so those are given back to it first.
        """
        command = ["node", "/app/dist/index.js", "doctor", "--fix", "--yes", "--non-interactive"]
        try:
            await self._containers.mend_owners(instance.id)
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

    def _declared_hash(self, work: Work) -> str | None:
        if work.instance.address is None or work.instance.plan != work.plan_name:
            return None
        spec = json.dumps(self._context.spec(work.instance).to_config(), sort_keys=True)
        return hashlib.sha256(spec.encode()).hexdigest()


def suspension_request(instance_id: str) -> str:
    """The name under which a gateway is asked to hold still."""
    return f"zaki-{instance_id}"


def _kind(instance: Instance, observed: Observed | None, decision: Decision) -> OperationKind:
    if instance.archive is not None:
        return OperationKind.RESTORE
    if instance.declared_hash is None:
        return OperationKind.CREATE
    if decision.action is Action.WARM:
        return OperationKind.WARM
    if observed is None:
        return OperationKind.REPAIR
    if decision.action is Action.RESTART:
        return OperationKind.RESTART
    return OperationKind.UPDATE if observed.state is ContainerState.RUNNING else OperationKind.WAKE


def _reason(ended: Observed | None) -> str:
    if ended is None:
        return "The gateway's container went away."
    if ended.oom_killed:
        return "The gateway ran out of memory; give its plan more."
    if ended.exit_code == _EXIT_CONFIG:
        return "The gateway refuses its configuration (exit code 78)."
    return f"The gateway ended with exit code {ended.exit_code}."
