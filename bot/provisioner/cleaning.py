"""Removes what is nobody's, one thing at a time, each after another look at whether that is so."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.hostfacts import host_file
from bot.provisioner import addresses
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.leftovers import Kind, Leftover
from bot.provisioner.operations import close_dead
from bot.store import now
from bot.store.tables import Address, Decision, Instance, Operation


class StillNeeded(Exception):
    """Something is not removed, because it is somebody's or may be; the message says whose."""


async def remove(context: ProvisionerContext, leftover: Leftover) -> None:
    """Remove a leftover that holds no files of anybody.

    Raises:
        StillNeeded: It is none any more, or may hold files.
    """
    database, subject = context.database, leftover.subject
    match leftover.kind:
        case Kind.SHELL:
            await _keep_files(context, subject)
            await remove_instance(context, subject)
        case Kind.HELPER:
            await context.containers.remove_helper(subject)
        case Kind.NETWORK:
            await context.containers.remove_orphan_network(subject, str(host_file(context.settings)))
        case Kind.SPOOLED:
            (context.settings.state / "spool" / subject).unlink(missing_ok=True)
        case Kind.OPERATION:
            await close_dead(database)
            async with database.write() as session:
                if await session.get(Instance, subject) is None:
                    await _forget(session, subject)
        case Kind.ADDRESS:
            nobodys = Address.instance_id.not_in(select(Instance.id))
            async with database.write() as session:
                await session.execute(
                    update(Address)
                    .where(Address.address == subject, nobodys)
                    .values(instance_id=None, released_at=now())
                    .execution_options(synchronize_session=False)
                )
        case Kind.STRANGER | Kind.BROKEN | Kind.LOST:
            raise StillNeeded(f"There is {leftover.what}, and that is not removed. {leftover.cure}")


async def remove_instance(context: ProvisionerContext, instance_id: str) -> None:
    """Remove all that there is of an instance that the database does not know, its files too.

    Raises:
        StillNeeded: The database knows it.
    """
    async with context.database.read() as session:
        if await session.get(Instance, instance_id) is not None:
            raise StillNeeded(
                f"{instance_id} is no leftover; `zaki instance rm {instance_id}` deletes it with its files."
            )
    await context.containers.stop(instance_id)
    await context.containers.remove_helper(instance_id)
    await context.stacks.destroy(instance_id)
    await context.containers.remove_orphan(instance_id)
    await context.archive.forget(instance_id)
    async with context.database.write() as session:
        await addresses.release(session, instance_id)
        await _forget(session, instance_id)


async def _keep_files(context: ProvisionerContext, instance_id: str) -> None:
    if await context.containers.has_volume(instance_id) or instance_id in await context.archive.ids():
        raise StillNeeded(
            f"{instance_id} has files after all; `zaki doctor --fix {instance_id}` removes them with all the rest."
        )


async def _forget(session: AsyncSession, instance_id: str) -> None:
    """Remove what the database holds of an instance that has no row."""
    for table in (Operation, Decision):
        await session.execute(delete(table).where(table.instance_id == instance_id))
