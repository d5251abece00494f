"""Deleting an instance, whether a service runs or not."""

from __future__ import annotations

import asyncio

from bot.cli.output import CliError
from bot.provisioner.decision import Action, Request
from bot.provisioner.lease import LeaseHeld
from bot.provisioner.single import provisioning
from bot.settings import Settings
from bot.store import Database
from bot.store.tables import Instance, User, Wanted
from bot.users import people

#: Seconds that whoever works on the instance gets to finish.
_WITHIN = 180.0
_TRY_EVERY = 0.5


async def remove_instance(settings: Settings, database: Database, instance_id: str) -> None:
    """Wish the instance away and see to it that it goes; raises :class:`CliError` if it does not in time."""
    async with database.write() as session:
        instance = await session.get(Instance, instance_id)
        user = await session.get(User, instance.user_id) if instance and instance.user_id is not None else None
        if user is not None:
            await people.wish(session, user, Wanted.ABSENT)
    # One of the warm pool is nobody's, so nobody can wish it away.
    request = Request(Action.DELETE, "The operator asked for it.") if user is None else None
    async with provisioning(settings, database) as provisioner:
        try:
            async with asyncio.timeout(_WITHIN):
                while await _is_there(database, instance_id):
                    try:
                        await provisioner.reconcile(instance_id, request)
                    except LeaseHeld:
                        # A running service was faster, or finishes something else first.
                        await asyncio.sleep(_TRY_EVERY)
        except TimeoutError:
            raise CliError(
                f"{instance_id} is still being worked on after {_WITHIN:.0f} seconds; "
                f"`zaki instance show {instance_id}` says by what."
            ) from None


async def _is_there(database: Database, instance_id: str) -> bool:
    async with database.read() as session:
        return await session.get(Instance, instance_id) is not None
