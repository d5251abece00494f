"""Deleting instances and people, whether a service runs or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import select

from bot.cli.output import CliError
from bot.front import farewell
from bot.provisioner.decision import Action, Request
from bot.provisioner.lease import LeaseHeld
from bot.provisioner.single import provisioning
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import AuditEntry, Instance, User, Wanted
from bot.users import people, receipts

#: Seconds that whoever works on the instance gets to finish.
_WITHIN = 180.0
_TRY_EVERY = 0.5


async def remove_instance(settings: Settings, database: Database, instance_id: str) -> None:
    """Wish the instance away and see to it that it goes; raises :class:`CliError` if it does not in time."""
    async with database.write() as session:
        instance = await session.get(Instance, instance_id)
        user = await session.get(User, instance.user_id) if instance and instance.user_id is not None else None
        if user is not None:
            await farewell.take_notice_back(session, user.telegram_id, settings.state / "spool")
            await people.wish(session, user, Wanted.ABSENT)
    # One of the warm pool is nobody's, so nobody can wish it away.
    request = Request(Action.DELETE, "The operator asked for it.") if user is None else None
    async with _in_time(instance_id):
        await _destroy(settings, database, instance_id, request)


async def remove_person(settings: Settings, database: Database, telegram_id: int) -> list[str]:
    """Delete a person with all that there is of them; what was removed, a line each.

    They are not told, and whoever ends the deletion, a running service or this command, leaves the receipt to it.
    Raises :class:`CliError` if the instance does not go in time.
    """
    spool = settings.state / "spool"
    async with database.write() as session:
        user = await people.find(session, telegram_id)
        if user is None:
            raise CliError(f"Nobody is known as {telegram_id} any more; `zaki user ls` lists everybody.")
        instance_id = await session.scalar(select(Instance.id).where(Instance.user_id == user.id))
        number = await receipts.ask(session, telegram_id)
        done = await farewell.begin(session, user, spool)
        session.add(
            AuditEntry(at=now(), instance_id=instance_id, action="user.rm", detail="The operator asked for it.")
        )
    async with _in_time(instance_id or "Their deletion"):
        while True:
            for file in done.files if done is not None else ():
                file.unlink(missing_ok=True)
            async with database.write() as session:
                removed = await receipts.collect(session, number)
            if removed is not None:
                return removed
            # Only that one: whoever ended the deletion, the person may have begun anew since.
            if instance_id is not None and await _is_there(database, instance_id):
                await _destroy(settings, database, instance_id)
            async with database.write() as session:
                user = await people.find(session, telegram_id)
                done = await farewell.end(session, user, spool) if user is not None else None
            if done is None:
                await asyncio.sleep(_TRY_EVERY)


async def _destroy(settings: Settings, database: Database, instance_id: str, request: Request | None = None) -> None:
    async with provisioning(settings, database) as provisioner:
        while True:
            # A running service may have been faster, or finish something else first.
            with contextlib.suppress(LeaseHeld):
                await provisioner.reconcile(instance_id, request)
            if not await _is_there(database, instance_id):
                return
            await asyncio.sleep(_TRY_EVERY)


@asynccontextmanager
async def _in_time(which: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_WITHIN):
            yield
    except TimeoutError:
        raise CliError(
            f"{which} is still being worked on after {_WITHIN:.0f} seconds; `zaki instance ls` says by what. "
            "The deletion goes on once a service runs."
        ) from None


async def _is_there(database: Database, instance_id: str) -> bool:
    async with database.read() as session:
        return await session.get(Instance, instance_id) is not None
