"""Puts an instance to rest: asleep, stopped, archived; and removes one for good."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import delete, func, select

from bot.nudge import Topic
from bot.provisioner import addresses, jobs
from bot.provisioner.containers import Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Decision
from bot.provisioner.facts import is_pending
from bot.provisioner.gateway import GatewayError
from bot.provisioner.operations import Recorder
from bot.provisioner.sleep.freezer import Freezer
from bot.provisioner.waking import suspension_request
from bot.provisioner.work import Refused, Unclear, Work
from bot.store import now
from bot.store.tables import (
    Announcement,
    ContainerState,
    Instance,
    News,
    Operation,
    OperationKind,
    Wanted,
    Wish,
)
from bot.store.tables import (
    Decision as DecisionRow,
)
from bot.timeline import Stage
from bot.users import receipts

_log = structlog.get_logger(__name__)

_UP = (ContainerState.RUNNING, ContainerState.PAUSED)


class Resting:
    """Carries out the decisions to let an instance sleep, stop, be archived or be deleted."""

    def __init__(self, context: ProvisionerContext, freezer: Freezer) -> None:
        self._context = context
        self._containers = context.containers
        self._freezer = freezer

    async def sleep(self, work: Work, decision: Decision, *, asked: bool) -> None:
        """Hold the gateway still and freeze it; raises :class:`Refused` where it is busy, or a message came.

        `asked`: somebody wants it, so it does not wait for a job that is due soon.
        """
        instance = work.instance
        async with work.operation(OperationKind.SLEEP) as record:
            await self._fence(work, decision, record, patient=not asked and not decision.force)
            await self._freezer.freeze(instance.id)
            await record.stage(
                Stage.ASLEEP,
                container=ContainerState.PAUSED,
                ready_at=None,
                resting_since=now(),
                rest_told_at=None,
                repairs=0,
            )
            # A member of the pool gives it back when the pool says so.
            if work.user is not None:
                await self._give_back(work)

    async def hold(self, work: Work, decision: Decision) -> None:
        """See to it that the gateway has nothing to do before it is started anew; raises :class:`Refused`."""
        async with work.operation(OperationKind.RESTART) as record:
            await self._fence(work, decision, record)

    async def _fence(self, work: Work, decision: Decision, record: Recorder, *, patient: bool = False) -> None:
        """Keep everything from the gateway and have it hold still; raises :class:`Refused`, after which it goes on."""
        # From here on the router delivers nothing; what it delivered before is the gateway's, and keeps it busy.
        work.instance.fenced_at = now()
        await record.stage(Stage.SLEEPING, decision.reason, fenced_at=work.instance.fenced_at)
        try:
            await self._hold_still(work, decision, patient=patient)
        except Unclear:
            raise
        except Refused:
            await record.stage(Stage.READY, "it stays awake", fenced_at=None)
            work.instance.fenced_at = None
            raise

    async def _give_back(self, work: Work) -> None:
        """Free its memory, which may take seconds, for as long as nobody writes."""
        giving = asyncio.create_task(self._freezer.give_back(work.instance.id))
        try:
            while not giving.done():
                seen = self._context.nudge.seen(Topic.WISHES)
                if await self._is_asked_for(work):
                    break
                news = asyncio.create_task(self._context.nudge.wait(Topic.WISHES, seen))
                await asyncio.wait({giving, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            giving.cancel()
            await asyncio.gather(giving, return_exceptions=True)

    async def _is_asked_for(self, work: Work) -> bool:
        """Whether a message waits for it, or somebody has asked for it since its wish was met."""
        if work.user is None:
            return False
        async with self._context.database.read() as session:
            generation = await session.scalar(select(Wish.generation).where(Wish.user_id == work.user.id))
            asked = generation is not None and generation > work.instance.met_generation
            return asked or await is_pending(session, work.user.telegram_id)

    async def _hold_still(self, work: Work, decision: Decision, *, patient: bool) -> None:
        """The handshake with the gateway; raises :class:`Refused`."""
        instance = work.instance
        if await self._is_asked_for(work):
            raise Refused("A message came while it was falling asleep.")
        gateway = self._context.gateway(instance)
        columns = await self._jobs(work, decision, patient=patient)
        try:
            held = await gateway.suspend(suspension_request(instance.id))
        except GatewayError as error:
            if not decision.force:
                # It may hold still all the same: the wake that follows the fence ends that.
                await work.save(next_look_at=now())
                raise Unclear(f"It does not hold still: {error}") from None
            await work.save(suspension_id=None, **columns)
            return
        if held.id is None and not decision.force:
            raise Refused(f"It is busy: {held.busy_with}.")
        await work.save(suspension_id=held.id, **columns)

    async def _jobs(self, work: Work, decision: Decision, *, patient: bool) -> Mapping[str, Any]:
        """What is noted of its jobs; raises :class:`Refused` where one is due soon, or it does not say which it has."""
        if work.user is None:
            return jobs.at_rest([], now(), work.plan, tired=False)
        try:
            found = await jobs.upcoming(self._context.gateway(work.instance), now())
        except GatewayError as error:
            if decision.force:
                return jobs.AWAKE
            raise Refused(f"It does not say which jobs it has: {error}") from None
        if patient and (soon := jobs.near(found, now(), work.plan)) is not None:
            raise Refused(f"Its job {soon.name!r} is due soon.")
        return jobs.at_rest(found, now(), work.plan, tired=decision.force)

    async def stop(self, work: Work, decision: Decision, observed: Observed | None) -> None:
        """End the gateway gracefully; raises :class:`Refused` where it is busy and nobody forbids it to run."""
        instance = work.instance
        if observed is not None and observed.state in _UP:
            kept = work.wish is None or work.wish.wanted != Wanted.AWAKE
            async with work.operation(OperationKind.STOP) as record:
                if observed.state is ContainerState.RUNNING and not kept:
                    await self._fence(work, decision, record)
                await work.save(ready_at=None)
                await self._containers.stop(instance.id)
                # Who may not run has no jobs to wake for.
                columns = jobs.AWAKE if kept else {}
                await record.stage(
                    Stage.STOPPED,
                    **columns,
                    fenced_at=None,
                    suspension_id=None,
                    container=ContainerState.EXITED,
                    resting_since=instance.resting_since or now(),
                    rest_told_at=None,
                    repairs=0,
                )
        await work.save(resting_since=instance.resting_since or now())

    async def tell(self, work: Work) -> None:
        """Tell its person, once, that it is going to rest for long."""
        assert work.user is not None  # noqa: S101 - nobody's instances never rest deeper
        asleep = work.instance.container is ContainerState.PAUSED
        since = work.instance.resting_since or now()
        at = since + (work.plan.stop_after if asleep else work.plan.archive_after)
        detail = {"rest": "stopped" if asleep else "archived", "at": at}
        news = Announcement(telegram_id=work.user.telegram_id, news=News.LONG_SLEEP, detail=detail, created_at=now())
        await work.save(news, rest_told_at=now())
        self._context.nudge.ring(Topic.INSTANCES)

    async def archive(self, work: Work, observed: Observed | None) -> None:
        """Its files go to the archive, then its container, volume and stack go; raises the archive's errors."""
        instance = work.instance
        async with work.operation(OperationKind.ARCHIVE) as record:
            await self._containers.stop(instance.id)
            # One that is gone, or whose restore was cut off, has nothing that the archive has not.
            restored = instance.archive is None or await self._context.archive.is_restored(instance.id)
            if observed is not None and restored:
                saved = await self._context.archive.save(instance.id)
                if await self._is_asked_for(work):
                    raise Refused("A message came while it was being archived.")
                # Before anything goes: a crash now leaves a volume, which the next wake prefers.
                await record.stage(
                    Stage.ARCHIVED,
                    f"{saved.bytes / 2**20:.0f} MiB",
                    archive=saved.snapshot,
                    container=ContainerState.EXITED,
                )
            await self._context.stacks.destroy(instance.id)
            await work.save(container=ContainerState.NONE, declared_hash=None, config_hash=None)

    async def delete(self, work: Work) -> None:
        """Remove all that there is of it, its row last, and tell its person what went."""
        instance = work.instance
        async with work.operation(OperationKind.DELETE) as record:
            await work.save(ready_at=None)
            removed = await self._belongings(work)
            await self._containers.kill(instance.id)
            await self._containers.remove_helper(instance.id)
            await self._context.stacks.destroy(instance.id)
            await self._containers.remove_orphan(instance.id)
            await self._context.archive.forget(instance.id)
            await record.stage(Stage.DELETED, container=ContainerState.NONE)
        async with self._context.database.write() as session:
            await addresses.release(session, instance.id)
            for table in (Operation, DecisionRow):
                await session.execute(delete(table).where(table.instance_id == instance.id))
            await session.execute(delete(Instance).where(Instance.id == instance.id))
            if work.user is not None:
                await receipts.add(session, work.user.telegram_id, removed)
        self._context.nudge.ring(Topic.INSTANCES)

    async def _belongings(self, work: Work) -> list[str]:
        """What there is of it, a line each."""
        instance = work.instance
        found = []
        if await self._containers.observe(instance.id) is not None:
            found.append(f"the container {instance.id} and what it had in memory")
        if await self._containers.has_volume(instance.id):
            found.append(f"the volume {instance.id} with its memory, conversations and files")
        if instance.declared_hash is not None:
            found.append("its stack, with the folder of its state")
        if instance.id in await self._context.archive.ids():
            found.append("its archive")
        async with self._context.database.read() as session:
            notes = select(func.count()).where(DecisionRow.instance_id == instance.id)
            work_done = select(func.count()).where(Operation.instance_id == instance.id)
            count = (await session.scalar(notes) or 0) + (await session.scalar(work_done) or 0)
        found.append(f"{count} notes of when and why it was started, put to sleep or mended")
        return found
