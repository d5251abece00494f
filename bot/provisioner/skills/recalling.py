"""Recall: an instance that has what was recalled is ended, loses it, and begins with a new session.

Nothing of it runs in between: a gateway that is asleep has the skill in its context and in processes of its own, so it
is not thawed, and one that is awake is not asked. Every folder of the volume with a SKILL.md is compared, so a copy
goes too; a copy that somebody altered does not, unless all of the skill is still in it. Where it lies among others'
files, those stay: they may be the person's own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Sequence

import structlog
from sqlalchemy import select

from bot.nudge import Topic
from bot.provisioner.containers import Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.skills import looking
from bot.provisioner.skills.folders import TooMuch, skills_in
from bot.provisioner.skills.looking import Lost
from bot.provisioner.work import InstanceBroken, Work
from bot.skills import locks
from bot.store import now
from bot.store.tables import (
    Announcement,
    AuditEntry,
    ContainerState,
    News,
    OperationKind,
    SkillRecall,
    SkillState,
    SkillStatus,
)
from bot.timeline import Stage

_log = structlog.get_logger(__name__)

#: Volumes that are looked through at a time.
_AT_ONCE = 4
#: Telegram counts the messages of a chat from one.
_NUMBERS = 2**31 - 1


class Recalling:
    """Takes recalled skills from instances; whoever calls holds the instance's lease."""

    def __init__(self, context: ProvisionerContext) -> None:
        self._context = context
        self._containers = context.containers
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def carry_out(self, work: Work, observed: Observed | None) -> None:
        """Take what was recalled from an instance that has a container; afterwards it is stopped.

        Raises :class:`InstanceBroken` where it cannot be looked through: then it must not run.
        """
        instance = work.instance
        ran = observed is not None and observed.state in (ContainerState.RUNNING, ContainerState.PAUSED)
        async with work.operation(OperationKind.STOP) as record:
            if ran:
                # From here on nobody delivers, and what it was told before it does not finish.
                await work.save(fenced_at=now(), ready_at=None)
                await self._containers.end_frozen(instance.id)
            await record.stage(
                Stage.STOPPED,
                "a skill that it has was recalled",
                container=ContainerState.EXITED if ran else instance.container,
                ready_at=None,
                fenced_at=None,
                suspension_id=None,
            )
            if ran:
                instance.container, instance.ready_at = ContainerState.EXITED, None
                instance.fenced_at = instance.suspension_id = None
            await self.sweep(work)

    async def sweep(self, work: Work) -> None:
        """Remove from the volume of one that does not run whatever was recalled; nothing was: it costs one question.

        Raises :class:`InstanceBroken` where it is known to have some of it, and cannot be looked through.
        """
        instance = work.instance
        async with self._context.database.read() as session:
            lost = await looking.to_lose(session, instance)
        if not lost:
            return
        async with self._slots:
            await self._context.mount_disk(instance)
            try:
                folders = await skills_in(self._containers.export(instance.id), "")
            except TooMuch as error:
                if all(one.origin is None for one in lost):
                    _log.warning("nobody can look through it for what is recalled", instance=instance.id)
                    return
                reason = f"A skill of it was recalled, and its volume cannot be looked through. {error}"
                raise InstanceBroken(reason) from None
            counts = [0] * len(lost)
            paths = set[str]()
            for folder in folders:
                for number, one in enumerate(lost):
                    if parts := folder.parts_of(one.files):
                        counts[number] += 1
                        paths.update(parts)
            # What goes whole takes along what is in it.
            outer = sorted(path for path in paths if not any(above in paths for above in _above(path)))
            if outer:
                await self._containers.remove_paths(instance.id, outer)
        await self._gone(work, list(zip(lost, counts, strict=True)))

    async def _gone(self, work: Work, lost: Sequence[tuple[Lost, int]]) -> None:
        """Each is gone, from so many folders: noted with the time that it took, and told."""
        instance = work.instance
        if instance.resting_since is not None:
            # Its files are others now, so no backup takes an earlier copy for them.
            await work.save(resting_since=now())
        async with self._context.database.write() as session:
            for one, folders in lost:
                reference = one.files.reference
                name = reference.name
                await locks.removed(session, instance.id, reference)
                if not folders and not one.is_held:
                    continue
                recall = await session.get(SkillRecall, one.recall_id) if one.recall_id is not None else None
                why = recall.reason if recall is not None else "It was recalled."
                took = now() - one.since
                detail = f"{reference}: gone {took:.1f} s after its recall, from {folders} folders"
                session.add(AuditEntry(at=now(), instance_id=instance.id, action="skill.gone", detail=detail))
                _log.info("a recalled skill is gone", instance=instance.id, skill=detail)
                await session.merge(
                    SkillState(
                        instance_id=instance.id,
                        owner=name.owner,
                        slug=name.slug,
                        # Its files are gone; the session in which it was used is not yet.
                        state=SkillStatus.REMOVING,
                        version=None,
                        offered=reference.version,
                        asks=None,
                        detail=f"It was recalled: {why}",
                        updated_at=now(),
                    )
                )
                if work.user is not None:
                    done = "has been removed from your assistant" if folders else "your assistant has none of it left"
                    says = f"The skill {name} was withdrawn and {done}. {why}"
                    told = {
                        "owner": name.owner,
                        "slug": name.slug,
                        "version": reference.version,
                        "says": says,
                        "took": took,
                    }
                    session.add(
                        Announcement(
                            telegram_id=work.user.telegram_id,
                            news=News.SKILL_RECALLED,
                            detail=told,
                            created_at=now(),
                        )
                    )
        self._context.nudge.ring(Topic.INSTANCES)

    async def begin_anew(self, work: Work) -> None:
        """Before anything is delivered to one that was started: a new session, where one is owed since a recall.

        Raises :class:`bot.provisioner.gateway.GatewayError`, after which nothing may be delivered.
        """
        instance = work.instance
        owed = select(SkillState).where(
            SkillState.instance_id == instance.id,
            SkillState.state == SkillStatus.REMOVING,
            SkillState.version.is_(None),
            SkillState.offered.is_not(None),
        )
        async with self._context.database.read() as session:
            states = list(await session.scalars(owed))
        if not states:
            return
        if work.user is not None:
            secret = self._context.front_key.derive(instance.id, instance.credentials_epoch).webhook_secret
            await self._context.gateway(instance).hand_over(_new_session(work.user.telegram_id), secret)
        async with self._context.database.write() as session:
            for state in states:
                kept = await session.get(SkillState, (state.instance_id, state.owner, state.slug))
                if kept is not None:
                    await session.delete(kept)


def _above(path: str) -> Iterator[str]:
    """The folders that a path lies in, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def _new_session(telegram_id: int) -> bytes:
    """The person's own `/new`, which OpenClaw answers without a model."""
    message = {
        "message_id": _NUMBERS - secrets.randbelow(1_000_000),
        "date": int(time.time()),
        "chat": {"id": telegram_id, "type": "private", "first_name": "You"},
        "from": {"id": telegram_id, "is_bot": False, "first_name": "You"},
        "text": "/new",
        "entities": [{"type": "bot_command", "offset": 0, "length": 4}],
    }
    # Telegram's own numbers of updates are far above.
    return json.dumps({"update_id": secrets.randbelow(1_000_000) + 1, "message": message}).encode()
