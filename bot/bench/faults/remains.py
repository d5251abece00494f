"""What should not be there: after all is settled, and after everybody has deleted everything."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, or_, select

from bot.bench.faults.world import World
from bot.provisioner.engine import processes_on
from bot.provisioner.leftovers import find_leftovers
from bot.store.tables import (
    Address,
    ContainerState,
    InboxStatus,
    InboxUpdate,
    Instance,
    Operation,
    OutboxMessage,
    User,
    Waiting,
    Wish,
)


async def under_way(world: World) -> list[str]:
    """What is being done, or still to be done, half a sentence each; empty: all is settled."""
    counts = {
        "updates wait to be delivered": select(func.count())
        .select_from(InboxUpdate)
        .where(InboxUpdate.status == InboxStatus.PENDING),
        "messages wait for Telegram": select(func.count())
        .select_from(OutboxMessage)
        .where(OutboxMessage.finished_at.is_(None)),
        "operations are open": select(func.count()).select_from(Operation).where(Operation.finished_at.is_(None)),
        "leases are held": select(func.count()).select_from(Instance).where(Instance.lease_owner.is_not(None)),
        "people are told to wait": select(func.count()).select_from(Waiting),
    }
    async with world.database.read() as session:
        found = {what: await session.scalar(query) or 0 for what, query in counts.items()}
    running = sorted(processes_on(world.settings.state))
    return [f"{count} {what}" for what, count in found.items() if count] + [f"the engine {pid} runs" for pid in running]


async def remains(world: World) -> list[str]:
    """What a crash has left though nothing is under way any more, half a sentence each."""
    found = await find_leftovers(world.settings)
    lines = [leftover.what for leftover in found.leftovers] + [f"{what}, so nobody looked" for what in found.unseen]
    running = Instance.container == ContainerState.RUNNING
    query = select(Instance.id, Instance.fenced_at, Instance.suspension_id).where(
        running, or_(Instance.fenced_at.is_not(None), Instance.suspension_id.is_not(None))
    )
    async with world.database.read() as session:
        for instance_id, fenced_at, _ in await session.execute(query):
            lines.append(f"{instance_id} runs and is {'fenced' if fenced_at else 'suspended'}")
        for instance_id, failure in await session.execute(
            select(Instance.id, Instance.failure).where(Instance.failure.is_not(None))
        ):
            lines.append(f"{instance_id} failed: {failure}")
        lost = await session.scalars(
            select(Address.address)
            .outerjoin(Instance, Instance.id == Address.instance_id)
            .where(Address.instance_id.is_not(None), Instance.id.is_(None))
        )
        lines += [f"the address {address} belongs to no instance" for address in lost]
        waiting = await session.scalar(
            select(func.count()).select_from(OutboxMessage).where(OutboxMessage.finished_at.is_(None))
        )
    if not waiting:
        lines += [f"the spooled file {path.name}" for path in (world.settings.state / "spool").iterdir()]
    return lines


async def remains_of_people(world: World, telegram_ids: Sequence[int]) -> list[str]:
    """What is still stored about people who deleted everything."""
    counts = {
        "users": select(func.count()).select_from(User).where(User.telegram_id.in_(telegram_ids)),
        "wishes": select(func.count()).select_from(Wish),
        "instances with an owner": select(func.count()).select_from(Instance).where(Instance.user_id.is_not(None)),
        "updates": select(func.count()).select_from(InboxUpdate).where(func.length(InboxUpdate.body) > 0),
    }
    async with world.database.read() as session:
        found = {what: await session.scalar(query) or 0 for what, query in counts.items()}
    return [f"{count} {what} of people who deleted everything" for what, count in found.items() if count]
