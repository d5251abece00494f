"""Keeps the pool at its size, in the background: one thing at a time, and only while nobody else needs the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy import select

from bot.credentials import new_instance_id
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.pool.claiming import withdraw
from bot.provisioner.pool.size import FORGOTTEN, wanted_size
from bot.provisioner.sleep import AWAKE_BYTES, Room, can_hold, may_wake, must_free, read_room
from bot.store import now
from bot.store.tables import ContainerState, Instance
from bot.users.plans import PLANS

_log = structlog.get_logger(__name__)

#: The plan of people who come: members of any other would wait for nobody.
PLAN = "standard"
#: Seconds between two looks, and for which nobody's instance was worked on before one of the pool is.
LOOK_EVERY = 5.0
QUIET = 15.0
#: Seconds after which it takes its turn beside the others: on a busy host there is always somebody.
PUT_OFF_AT_MOST = 300.0
#: Seconds after which a member is replaced by a fresh one.
OLDEST = 7 * 24 * 3600.0
#: Seconds until the next attempt after one that failed; doubled each time.
_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0

Begin = Callable[[str], object]
GiveBack = Callable[[str], Awaitable[None]]


class Pool:
    """Makes members and removes those that are of no use; whoever claims one has it worked on from then on."""

    def __init__(
        self,
        context: ProvisionerContext,
        begin: Begin,
        give_back: GiveBack,
        busy: Callable[[], bool],
        room: Callable[[], Room] = read_room,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`begin` has an instance brought to what it should be, in the background.

        `give_back`: frees the memory of one that is asleep. `busy`: whether any instance is being worked on, a member
        or somebody's.
        """
        self._context = context
        self._begin = begin
        self._give_back = give_back
        self._busy = busy
        self._room = room
        self._clock = clock
        self._not_before = clock() + QUIET
        #: Not before then, because a member failed.
        self._pause_until = 0.0
        #: Since when others have gone first, without a pause.
        self._put_off_since: float | None = None
        #: Members that are in swap.
        self._swapped: set[str] = set()
        #: Members in a row that failed.
        self._failed = 0
        self._told = ""

    async def run(self) -> None:
        """Look every few seconds until cancelled; what was begun then is gone on with at the next start."""
        while True:
            await self.step()
            await asyncio.sleep(LOOK_EVERY)

    async def step(self) -> None:
        """Begin the one thing that is most needed, unless others go first."""
        if self._context.database.trouble.reason is not None:
            return
        members = await self._members()
        left = await self._leave_memory(members)
        if members and not left and (hardship := must_free(self._room())):
            # They are nobody's, so they go before anybody is put to sleep for it.
            await self._delete(members[0], f"The machine is short of memory. {hardship.reason}")
            return
        if not self._busy():
            self._put_off_since = None
        elif self._put_off_since is None:
            self._put_off_since = self._clock()
        put_off = self._put_off_since is not None and self._clock() - self._put_off_since > PUT_OFF_AT_MOST
        if self._busy() and not put_off:
            self._not_before = max(self._not_before, self._clock() + QUIET)
        if self._clock() < (self._pause_until if put_off else max(self._not_before, self._pause_until)):
            return
        for member in members:
            if (useless := self._useless(member)) is not None:
                if member.failure is not None:
                    self._failed += 1
                    self._pause_until = self._clock() + min(_FIRST_PAUSE * 2 ** (self._failed - 1), _LONGEST_PAUSE)
                await self._delete(member, useless)
                return
        wanted = wanted_size(await self._arrivals(), now(), self._context.settings.pool)
        room = self._room()
        if len(members) > wanted:
            await self._delete(members[0], f"The pool has {len(members)} members and needs {wanted}.")
        elif (begun := next((member for member in members if member.warmed_at is None), None)) is not None:
            if (begun.next_look_at or 0.0) <= now():
                self._begin(begun.id)
        elif len(members) < wanted and self._has_room(room):
            self._begin(await self._new_row())
        elif members:
            self._failed = 0

    async def _leave_memory(self, members: Sequence[Instance]) -> bool:
        """Send members to swap that have no business in memory; whether there were any.

        The newest, whom the next person gets, answers faster from memory; it stays there while there is plenty.
        """
        self._swapped &= {member.id for member in members}
        asleep = [member for member in members if member.container == ContainerState.PAUSED]
        asleep.sort(key=lambda member: member.warmed_at or 0.0)
        if asleep and may_wake(self._room(), 2 * AWAKE_BYTES):
            asleep.pop()
        leaving = [member.id for member in asleep if member.id not in self._swapped]
        for instance_id in leaving:
            await self._give_back(instance_id)
            self._swapped.add(instance_id)
        return bool(leaving)

    async def _delete(self, member: Instance, reason: str) -> None:
        """Have it deleted, unless somebody has claimed it meanwhile."""
        async with self._context.database.write() as session:
            if not await withdraw(session, member.id, reason):
                return
        self._begin(member.id)

    def _has_room(self, room: Room) -> bool:
        """Whether one more can be made, and sleep, and leave room for as much again."""
        for verdict in (may_wake(room, 2 * AWAKE_BYTES), can_hold(room, 2 * AWAKE_BYTES)):
            if not verdict:
                if verdict.reason != self._told:
                    _log.info("the warm pool waits for room", reason=verdict.reason)
                    self._told = verdict.reason
                return False
        self._told = ""
        return True

    async def _members(self) -> Sequence[Instance]:
        query = select(Instance).where(Instance.user_id.is_(None)).order_by(Instance.created_at)
        async with self._context.database.read() as session:
            return (await session.scalars(query)).all()

    async def _arrivals(self) -> Sequence[float]:
        query = select(Instance.created_at).where(
            Instance.user_id.is_not(None), Instance.created_at > now() - FORGOTTEN
        )
        async with self._context.database.read() as session:
            return (await session.scalars(query)).all()

    async def _new_row(self) -> str:
        member = Instance(id=new_instance_id(), user_id=None, plan=PLAN, image=self._image, created_at=now())
        async with self._context.database.write() as session:
            session.add(member)
        return member.id

    def _useless(self, member: Instance) -> str | None:
        """Why nobody should get this one; None: somebody may."""
        if member.failure is not None:
            return member.failure
        if member.image != self._image:
            return "It is of another image than new ones are."
        if member.plan != PLAN or member.plan not in PLANS:
            return f"It is of the plan {member.plan!r}, which nobody new gets."
        if member.created_at < now() - OLDEST:
            return "It has waited for so long that a fresh one takes its place."
        if member.warmed_at is not None and member.container in (ContainerState.NONE, ContainerState.EXITED):
            return "It is not warm any more."
        return None

    @property
    def _image(self) -> str:
        return self._context.settings.image or self._context.host.image
