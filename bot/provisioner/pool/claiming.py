"""How somebody new comes to an instance of the pool: one conditional UPDATE, so no two people can get the same."""

from __future__ import annotations

from sqlalchemy import exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store import now
from bot.store.tables import ContainerState, Instance, Operation, OperationKind


async def claim(session: AsyncSession, user_id: int, plan: str, image: str) -> str | None:
    """Give the person the newest member, which may still be in memory; in the caller's transaction; None: none fits.

    A member fits that is warm and asleep, of this plan and image, and not being worked on, unless it is just falling
    asleep. Raises SQLAlchemy's IntegrityError where the person has an instance by now.
    """
    free = or_(Instance.lease_owner.is_(None), Instance.lease_until < now())
    # It is frozen already; its wake comes after.
    falls_asleep = exists().where(
        Operation.instance_id == Instance.id,
        Operation.finished_at.is_(None),
        Operation.kind == OperationKind.SLEEP,
    )
    fits = (
        select(Instance.id)
        .where(
            Instance.user_id.is_(None),
            Instance.warmed_at.is_not(None),
            Instance.container == ContainerState.PAUSED,
            Instance.failure.is_(None),
            Instance.plan == plan,
            Instance.image == image,
            or_(free, falls_asleep),
        )
        .order_by(Instance.warmed_at.desc())
        .limit(1)
        # PostgreSQL: whoever comes at the same time takes the next one, and does not wait to find this one taken.
        .with_for_update(skip_locked=True)
    )
    claimed = await session.scalars(
        update(Instance)
        .where(Instance.id == fits.scalar_subquery(), Instance.user_id.is_(None))
        # It is its person's from now on, and what the person brings reaches it with its next wake.
        .values(user_id=user_id, created_at=now(), next_look_at=now())
        .returning(Instance.id)
        .execution_options(synchronize_session=False)
    )
    return claimed.one_or_none()


async def withdraw(session: AsyncSession, instance_id: str, reason: str) -> bool:
    """Let nobody have the member any more, so that it can be deleted; False where somebody has it by now."""
    withdrawn = await session.scalars(
        update(Instance)
        .where(Instance.id == instance_id, Instance.user_id.is_(None))
        .values(failure=reason)
        .returning(Instance.id)
        .execution_options(synchronize_session=False)
    )
    return withdrawn.one_or_none() is not None
