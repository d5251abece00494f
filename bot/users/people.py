"""People: who they are to us, what is wished for their instance, and how they leave."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store import now
from bot.store.tables import (
    InboxStatus,
    InboxUpdate,
    Instance,
    Onboarding,
    Recipient,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.users import places, receipts
from bot.users.erasure import erase
from bot.users.plans import PLANS, Plan

#: Seconds by which a second press of “Keep awake” must prolong it to count as one.
_AGAIN_AFTER = 60.0


async def find(session: AsyncSession, telegram_id: int) -> User | None:
    """The person, their row locked until the transaction ends; None: never seen."""
    query = select(User).where(User.telegram_id == telegram_id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def remember(
    session: AsyncSession,
    telegram_id: int,
    first_name: str = "",
    username: str | None = None,
    language: str | None = None,
) -> User:
    """The person's row, locked and with these names; a new one is not admitted yet."""
    names = {"first_name": first_name, "username": username, "language": language}
    new = {"status": UserStatus.REFUSED, "plan": "standard", "onboarding": Onboarding.NEW, "created_at": now()}
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(User).values(telegram_id=telegram_id, **names, **new)
    await session.execute(statement.on_conflict_do_update(index_elements=["telegram_id"], set_=names))
    user = await find(session, telegram_id)
    assert user is not None  # noqa: S101 - it was written just now, in this transaction
    return user


async def wish(
    session: AsyncSession, user: User, wanted: Wanted, *, again: bool = False, awake_until: float | None = None
) -> bool:
    """Wish for a state of the person's instance; True where this is a change of mind.

    `again` asks once more for what is wished already, for example because what the person told us changed.
    `awake_until` (Unix time) has it stay awake until then; None changes nothing about that. A deletion is never undone:
    only :func:`forget` ends it.
    """
    present = await session.get(Wish, user.id, with_for_update=True)
    if present is None:
        made = Wish(user_id=user.id, wanted=wanted, plan=user.plan, generation=1, asked_at=now())
        made.awake_until = awake_until
        session.add(made)
        await session.flush()
        return True
    if present.wanted == Wanted.ABSENT and wanted != Wanted.ABSENT:
        return False
    if not again and present.wanted == wanted and present.plan == user.plan:
        return False
    if wanted != Wanted.AWAKE:
        present.awake_until = None
    elif awake_until is not None:
        present.awake_until = awake_until
    present.wanted, present.plan, present.asked_at = wanted, user.plan, now()
    present.generation += 1
    return True


async def renew(session: AsyncSession, user: User) -> bool:
    """Have what the person told us brought to their instance, whatever its wished state; False: there is none."""
    present = await session.get(Wish, user.id)
    return present is not None and await wish(session, user, Wanted(present.wanted), again=True)


async def keep_awake(session: AsyncSession, user: User) -> float | None:
    """Have the person's instance be awake for as long as their plan gives, from now on; until when (Unix time).

    None: they have no instance, or it is being deleted.
    """
    present, at = await session.get(Wish, user.id, with_for_update=True), now()
    if present is None or present.wanted == Wanted.ABSENT:
        return None
    until, kept = at + _plan(present).keep_awake, kept_awake_until(present, at)
    if kept is not None and until - kept < _AGAIN_AFTER:
        return kept
    await wish(session, user, Wanted.AWAKE, again=True, awake_until=until)
    return until


def kept_awake_until(wish: Wish, at: float) -> float | None:
    """Until when the person wants their instance awake; None: at this time they do not.

    What lies further ahead than a press of the button gives is from before the clock was put back, and does not count.
    """
    until = wish.awake_until
    if wish.wanted != Wanted.AWAKE or until is None or not at < until <= at + _plan(wish).keep_awake:
        return None
    return until


async def suspend(session: AsyncSession, user: User) -> None:
    """Stop the person's instance and take nothing from them; their place stays taken."""
    user.status, user.refusal_told_at = UserStatus.SUSPENDED, None
    present = await session.get(Wish, user.id)
    if present is not None and present.wanted != Wanted.ABSENT:
        await wish(session, user, Wanted.STOPPED)


async def resume(session: AsyncSession, user: User) -> None:
    """End a suspension; the instance starts with the next message, after another admission where it was deleted."""
    admitted = await session.get(Wish, user.id) is not None
    user.status, user.refusal_told_at = (UserStatus.ACTIVE if admitted else UserStatus.REFUSED), None


async def leave(session: AsyncSession, user: User) -> list[str] | None:
    """Begin the deletion of the person's data; :func:`forget` ends it once the provisioner has removed the instance.

    What waits for the instance goes at once; what comes from now on starts anew. Of somebody who has no instance
    everything goes at once: what that was, a line each; None for all others.
    """
    await session.execute(
        update(InboxUpdate)
        .where(
            InboxUpdate.telegram_id == user.telegram_id,
            InboxUpdate.status == InboxStatus.PENDING,
            InboxUpdate.recipient == Recipient.INSTANCE,
        )
        .values(status=InboxStatus.HANDLED, settled_at=now(), body=b"")
        .execution_options(synchronize_session=False)
    )
    if await session.get(Wish, user.id) is None:
        return await erase(session, user)
    await wish(session, user, Wanted.ABSENT)
    return None


async def forget(session: AsyncSession, user: User) -> list[str] | None:
    """End a deletion: what was removed, a line each; None where the instance still exists, or nobody is leaving.

    Updates that wait are kept and start anew. Of somebody suspended, the Telegram id and the suspension stay, or
    deletion would end a suspension. Counts of tokens stay under the removed instance's random name, which points to
    nobody any more.
    """
    present = await session.get(Wish, user.id, with_for_update=True)
    instance = await session.scalar(select(Instance.id).where(Instance.user_id == user.id))
    if present is None or present.wanted != Wanted.ABSENT or instance is not None:
        return None
    await session.delete(present)
    await session.flush()
    await places.give_back(session)
    return [*await receipts.take(session, user.telegram_id), *await erase(session, user)]


async def count_waiting(session: AsyncSession, telegram_id: int) -> int:
    """Updates of the person that wait for their instance."""
    pending = InboxUpdate.status == literal_column("'pending'")
    theirs = InboxUpdate.telegram_id == telegram_id, InboxUpdate.recipient == Recipient.INSTANCE
    query = select(func.count()).where(*theirs, pending)
    return await session.scalar(query) or 0


def _plan(wish: Wish) -> Plan:
    return PLANS.get(wish.plan, PLANS["standard"])
