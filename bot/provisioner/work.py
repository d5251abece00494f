"""One instance while it is worked on: what its row, its person and their wish were when the work began."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from sqlalchemy import select, update

from bot.provisioner.context import ProvisionerContext
from bot.provisioner.operations import Recorder, operation
from bot.store.tables import Base, Instance, OperationKind, User, Wanted, Wish
from bot.users.plans import PLANS, Plan


class InstanceBroken(Exception):
    """The gateway does not come up; the message is one sentence with the reason."""


class InstanceStumbled(Exception):
    """The gateway ended while it was started; another start after `pause` seconds may succeed."""

    def __init__(self, reason: str, pause: float) -> None:
        super().__init__(reason)
        self.pause = pause


class Refused(Exception):
    """What was asked for may not be done now; the message says why."""


class Unclear(Refused):
    """Whether the gateway holds still is not known; the message says why."""


@dataclass(frozen=True)
class Work:
    """An instance under its lease."""

    context: ProvisionerContext
    instance: Instance
    #: Both None: nobody's, a member of the warm pool.
    user: User | None
    wish: Wish | None

    @property
    def plan_name(self) -> str:
        """The plan that the instance should have."""
        return self.wish.plan if self.wish is not None else self.instance.plan

    @property
    def plan(self) -> Plan:
        """That plan's limits, the standard one's for a name that does not exist."""
        plan = PLANS.get(self.plan_name, PLANS["standard"])
        idle = self.context.settings.idle_seconds
        return plan if idle is None else replace(plan, idle=idle)

    @property
    def generation(self) -> int:
        """The wish that is met once the work is done."""
        return self.wish.generation if self.wish is not None else 0

    def operation(self, kind: OperationKind) -> AbstractAsyncContextManager[Recorder]:
        """An open operation during the block."""
        telegram_id = self.user.telegram_id if self.user is not None else None
        return operation(self.context.database, self.context.nudge, self.instance, telegram_id, kind)

    async def is_wanted_up(self) -> bool:
        """Whether it should still be brought up; somebody may leave, or be suspended, while it waits."""
        if self.user is None:
            return True
        async with self.context.database.read() as session:
            wanted = await session.scalar(select(Wish.wanted).where(Wish.user_id == self.user.id))
        return wanted == Wanted.AWAKE

    async def save(self, *beside: Base, **columns: object) -> None:
        """Write columns of the instance's row, here and in the database, with new rows beside it."""
        async with self.context.database.write() as session:
            session.add_all(beside)
            await session.execute(update(Instance).where(Instance.id == self.instance.id).values(**columns))
        for name, value in columns.items():
            setattr(self.instance, name, value)
