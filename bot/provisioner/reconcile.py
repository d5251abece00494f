"""Closes the difference between what is wished for an instance and what is observed: look, decide, act, look again.

Every step looks at the world first, so the whole may be killed anywhere and run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog
from sqlalchemy import update

from bot.nudge import Topic
from bot.provisioner import decisions, facts, pool
from bot.provisioner.archive import ArchiveError, ArchiveTooLarge
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Action, Decision, Request, decide
from bot.provisioner.facts import Sight
from bot.provisioner.lease import lease
from bot.provisioner.resting import Resting
from bot.provisioner.sleep import NotWanted, WakeAdmission, can_hold, read_room
from bot.provisioner.sleep.freezer import PausingFreezer
from bot.provisioner.waking import Waking
from bot.provisioner.work import InstanceBroken, Refused, Work
from bot.store import now
from bot.store.tables import WAIT, ContainerState, Instance, OperationKind
from infra.spec import SpecError

__all__ = ["InstanceBroken", "Reconciler", "Refused"]

_log = structlog.get_logger(__name__)

#: Actions in a row after which one that still finds something to do is left alone for a while.
_STEPS = 6
#: Seconds after which a busy instance is asked again whether it may sleep.
_ASK_AGAIN = 60.0
#: Seconds after which an archive that failed is tried again, and one that is too large.
_ARCHIVE_AGAIN = 3600.0
_TOO_LARGE = 24 * 3600.0
#: Seconds of readiness after which the end of a gateway is an accident, and not one more of a row.
SOUND_AFTER = 30.0


class Reconciler:
    """Brings one instance at a time to what should be of it."""

    def __init__(
        self,
        context: ProvisionerContext,
        owner: str,
        admission: WakeAdmission,
        slots: asyncio.Semaphore,
        missed: Callable[[str], int] = lambda _instance_id: 0,
    ) -> None:
        """`owner` holds leases; `slots` bounds starts; `missed`: how many probes an instance left unanswered."""
        self._context = context
        self._database = context.database
        self._owner = owner
        self._missed = missed
        self._freezer = PausingFreezer(context.containers)
        self._waking = Waking(context, self._freezer, admission, slots)
        self._resting = Resting(context, self._freezer)

    async def reconcile(self, instance_id: str, request: Request | None = None) -> None:
        """Decide about the instance and act, until nothing is left to do.

        Raises :class:`bot.provisioner.lease.LeaseHeld` while somebody else does; :class:`Refused` where `request` may
        not be done now; the errors of Docker and Pulumi, after which another try may succeed; :class:`InstanceBroken`
        once it has been recorded as the instance's failure.
        """
        async with lease(self._database, instance_id, self._owner):
            await self._settle(instance_id, request)
        self._context.nudge.ring(Topic.INSTANCES)

    async def _settle(self, instance_id: str, request: Request | None) -> None:
        missed = self._missed(instance_id)
        for _ in range(_STEPS):
            sight = await facts.look(self._context, instance_id, missed=missed, request=request)
            if sight is None:
                return
            decision = await self._decide(sight)
            await self._note(sight, decision)
            if decision.action is Action.NOTHING:
                if sight.facts.up and sight.work.instance.jobs is not None:
                    # A crash came between its being ready and its person's being told of what is late.
                    await self._waking.catch_up(sight.work)
                if request is not None:
                    raise Refused(decision.reason)
                break
            waits = await self._act(sight, decision, asked=request is not None)
            request, missed = None, 0
            if waits:
                break
        else:
            _log.warning("an instance does not come to rest", instance=instance_id)
            await self._wait(instance_id, "It does not come to rest; it is looked at again.", _ASK_AGAIN)

    async def carry_out(self, instance_id: str, request: Request) -> None:
        """Do what is asked for and nothing else: what comes after it is decided by the service, by its own settings.

        For a process beside the service's; raises as :meth:`reconcile`.
        """
        async with lease(self._database, instance_id, self._owner):
            sight = await facts.look(self._context, instance_id, request=request)
            if sight is None:
                return
            decision = await self._decide(sight)
            if decision.action is Action.NOTHING:
                raise Refused(decision.reason)
            await self._note(sight, decision)
            await self._act(sight, decision, asked=True)
        async with self._database.write() as session:
            await session.execute(update(Instance).where(Instance.id == instance_id).values(next_look_at=now()))
        self._context.nudge.ring(Topic.WISHES)

    async def give_back(self, instance_id: str) -> None:
        """Free the memory of one that is asleep."""
        await self._freezer.give_back(instance_id)

    async def declare(self, instance_id: str) -> bool:
        """Bring the instance's stack to what its row and plan say, and start nothing; whether anything changed.

        Raises as :meth:`reconcile`.
        """
        async with lease(self._database, instance_id, self._owner):
            sight = await facts.look(self._context, instance_id)
            if sight is None:
                return False
            async with sight.work.operation(OperationKind.UPDATE) as record:
                return await self._waking.declare(sight.work, record)

    async def _decide(self, sight: Sight) -> Decision:
        decision = decide(sight.facts)
        if decision.action is not Action.SLEEP or sight.work.user is None:
            return decision
        # Only now: it costs more than the rest of the look.
        use = await self._freezer.use(sight.work.instance.id)
        if use is None:
            return decision
        room = can_hold(read_room(), use.resident_bytes)
        seen = replace(
            sight.facts,
            memory=use.resident_bytes - use.cached_bytes + use.swapped_bytes,
            memory_limit=sight.work.plan.memory_mib * 2**20,
            no_room=None if room else room.reason,
        )
        return decide(seen)

    async def _note(self, sight: Sight, decision: Decision) -> None:
        """Write the decision down, and what follows from there being nothing to do."""
        instance = sight.work.instance
        async with self._database.write() as session:
            await decisions.note(session, instance.id, decision.action, decision.reason)
            if decision.action is not Action.NOTHING:
                return
            columns = {
                "next_look_at": decision.look_at,
                "met_generation": sight.work.generation,
                "container": sight.facts.container,
            }
            if sight.facts.up and now() - (instance.ready_at or 0.0) > SOUND_AFTER:
                columns["repairs"] = 0
            await session.execute(update(Instance).where(Instance.id == instance.id).values(**columns))

    async def _act(self, sight: Sight, decision: Decision, *, asked: bool) -> bool:
        """Carry it out; True where that has to wait, False where it was done."""
        work, observed = sight.work, sight.observed
        try:
            match decision.action:
                case Action.WAKE | Action.RESTART | Action.WARM:
                    if decision.gentle:
                        await self._resting.hold(work, decision)
                    await self._waking.wake(work, decision, observed)
                    if decision.action is Action.WARM:
                        await self._warm(work)
                case Action.SLEEP:
                    await self._resting.sleep(work, decision, asked=asked)
                case Action.STOP:
                    await self._resting.stop(work, decision, observed)
                case Action.TELL:
                    await self._resting.tell(work)
                case Action.ARCHIVE if observed is None and work.instance.archive is None:
                    # Its container was removed by hand, and only through one can its files be read.
                    async with work.operation(OperationKind.UPDATE) as record:
                        await self._waking.declare(work, record)
                case Action.ARCHIVE if self._context.archive.busy:
                    raise Refused("Another one is being archived.")
                case Action.ARCHIVE:
                    await self._resting.archive(work, observed)
                case Action.DELETE:
                    await self._resting.delete(work)
        except Refused as refused:
            if asked:
                raise
            await self._wait(work.instance.id, str(refused), _ASK_AGAIN)
            return True
        except ArchiveTooLarge as error:
            await self._wait(work.instance.id, str(error), _TOO_LARGE)
            return True
        except ArchiveError as error:
            if decision.action is not Action.ARCHIVE:
                raise
            await self._wait(work.instance.id, str(error), _ARCHIVE_AGAIN)
            return True
        except NotWanted:
            return False
        except InstanceBroken as broken:
            raise await self._fail(work, str(broken)) from None
        except SpecError as error:
            raise await self._fail(work, f"It cannot be declared: {error}") from None
        return False

    async def _wait(self, instance_id: str, why: str, seconds: float) -> None:
        async with self._database.write() as session:
            await decisions.note(session, instance_id, WAIT, why)
            await session.execute(
                update(Instance).where(Instance.id == instance_id).values(next_look_at=now() + seconds)
            )

    async def _warm(self, work: Work) -> None:
        """Give a member of the pool its first turn, so that its person's own is not the slow one."""
        instance = work.instance
        credentials = self._context.front_key.derive(instance.id, instance.credentials_epoch)
        try:
            await pool.warm(self._context.gateway(instance), credentials, instance.id)
        except pool.WarmupFailed as error:
            raise InstanceBroken(str(error)) from None
        await work.save(warmed_at=now())

    async def _fail(self, work: Work, reason: str) -> InstanceBroken:
        """Record the failure; the same wish is not tried again, a newer one is."""
        observed = await self._context.containers.observe(work.instance.id)
        await work.save(
            failure=reason,
            ready_at=None,
            container=observed.state if observed else ContainerState.NONE,
            met_generation=work.generation,
            next_look_at=None,
            repairs=0,
        )
        _log.error("instance failed", instance=work.instance.id, reason=reason)
        return InstanceBroken(reason)
