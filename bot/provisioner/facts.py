"""Looks at all that a decision about an instance depends on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.provisioner import jobs
from bot.provisioner.containers import Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Facts, Request
from bot.provisioner.drift import drift
from bot.provisioner.work import Work
from bot.store import now
from bot.store.tables import ContainerState, InboxUpdate, Instance, Recipient, Usage, User, Wish
from bot.users import people

_PENDING = InboxUpdate.status == literal_column("'pending'")


@dataclass(frozen=True)
class Sight:
    """An instance as it was found."""

    work: Work
    observed: Observed | None
    facts: Facts


async def look(
    context: ProvisionerContext, instance_id: str, *, missed: int = 0, request: Request | None = None
) -> Sight | None:
    """Everything about one instance now; None where it has no row.

    `missed`: probes in a row that it left unanswered. Raises the errors of Docker and of the database.
    """
    query = (
        select(Instance, User, Wish)
        .outerjoin(User, User.id == Instance.user_id)
        .outerjoin(Wish, Wish.user_id == User.id)
        .where(Instance.id == instance_id)
    )
    async with context.database.read() as session:
        row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        instance, user, wish = row
        turn = await session.scalar(select(func.max(Usage.at)).where(Usage.instance_id == instance_id))
        pending = user is not None and await is_pending(session, user.telegram_id)
    observed = await context.containers.observe(instance_id)
    work = Work(context, instance, user, wish)
    at, container = now(), observed.state if observed is not None else ContainerState.NONE
    facts = Facts(
        now=at,
        instance=instance,
        wish=wish,
        plan=work.plan,
        container=container,
        person=user.status if user is not None else None,
        pending=pending,
        last_word=user.last_message_at if user is not None else None,
        last_turn=turn,
        awake_until=people.kept_awake_until(wish, at) if wish is not None else None,
        wake_at=jobs.wake_at(instance, container),
        drift=drift(observed, context.spec(instance)) if observed and instance.declared_hash else None,
        missed=missed,
        request=request,
    )
    return Sight(work, observed, facts)


async def is_pending(session: AsyncSession, telegram_id: int) -> bool:
    """Whether updates of the person wait for their instance."""
    found = select(InboxUpdate.id).where(
        InboxUpdate.telegram_id == telegram_id, _PENDING, InboxUpdate.recipient == Recipient.INSTANCE
    )
    return await session.scalar(found.limit(1)) is not None
